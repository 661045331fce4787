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

/// When a file's content, owner or place last changed, which no program can set.
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
    use std::os::unix::fs::MetadataExt;
    let address = own_file as fn() -> Option<Metadata> as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    // Such as `55d0c0a00000-55d0c0b00000 r-xp 00001000 fd:00 1234567    /usr/bin/gradc`.
    let holds = |line: &&str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).ok();
        range
            .and_then(|(start, end)| Some(number(start)?..number(end)?))
            .is_some_and(|range| range.contains(&address))
    };
    let line = maps.lines().find(holds)?;
    let inode: u64 = line.split_ascii_whitespace().nth(4)?.parse().ok()?;
    // The first is the program even where its file has got another name meanwhile, or none.
    let files = ["/proc/self/exe", &line[line.find('/')?..]];
    files.into_iter().filter_map(|path| std::fs::metadata(path).ok()).find(|file| file.ino() == inode)
}

#[cfg(not(target_os = "linux"))]
fn own_file() -> Option<Metadata> {
    std::fs::metadata(std::env::current_exe().ok()?).ok()
}
