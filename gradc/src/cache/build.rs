//! Which build of the compiler this is.
//!
//! Its version says too little: who changes a pass and builds again has the same. A hash of the sources would have to
//! reach into other crates. So a build is the file that its code was loaded from, told by size and times: a
//! file that was written anew is another build, be it the same. On Linux that file is looked up by address, so that a shared
//! library counts, not the program that loaded it; elsewhere it is the program.

use std::fs::Metadata;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

/// A text that tells builds apart, or why there is none.
pub(super) fn identity() -> Result<&'static str, String> {
    static IDENTITY: OnceLock<Option<String>> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| {
        let file = own_file()?;
        let modified = file.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let version = env!("CARGO_PKG_VERSION");
        Some(format!("{version} {} {modified:?} {:?}", file.len(), changed(&file)))
    });
    identity.as_deref().ok_or_else(|| "the file of this program cannot be told".to_owned())
}

/// Which file it is, and when it last changed in any way, which no program can set.
#[cfg(unix)]
fn changed(file: &Metadata) -> [u64; 3] {
    use std::os::unix::fs::MetadataExt;
    [file.ino(), file.ctime() as u64, file.ctime_nsec() as u64]
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> [u64; 0] {
    []
}

/// The file that this code was loaded from.
#[cfg(target_os = "linux")]
fn own_file() -> Option<Metadata> {
    let address = own_file as fn() -> Option<Metadata> as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    // Such as `55d0c0a00000-55d0c0b00000 r-xp 00001000 fd:00 1234567    /usr/bin/gradc`.
    let holds = |line: &&str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).ok();
        let range = range.and_then(|(start, end)| Some(number(start)?..number(end)?));
        range.is_some_and(|range| range.contains(&address))
    };
    let line = maps.lines().find(holds)?;
    let path = &line[line.find('/')?..];
    // A name says nothing once another file has taken it. The program's own is found all the same; a library's is
    // marked as deleted, and is not found.
    let program = std::path::Path::new("/proc/self/exe");
    let is_program = std::fs::read_link(program).is_ok_and(|name| name.as_os_str() == path);
    std::fs::metadata(if is_program { program.as_os_str() } else { path.as_ref() }).ok()
}

#[cfg(not(target_os = "linux"))]
fn own_file() -> Option<Metadata> {
    std::fs::metadata(std::env::current_exe().ok()?).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_build_is_told() {
        let identity = super::identity().unwrap();
        assert!(identity.starts_with(env!("CARGO_PKG_VERSION")), "{identity}");
        assert_eq!(super::own_file().unwrap().len(), {
            let program = std::env::current_exe().unwrap();
            std::fs::metadata(program).unwrap().len()
        });
    }
}
