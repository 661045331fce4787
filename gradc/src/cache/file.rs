//! What stands before an image in a file: which one it is, and a checksum.

use super::key::Key;
use bytes::Bytes;

/// The first bytes of a file. The number is that of the form: a change of what files hold gives another.
const MAGIC: [u8; 16] = *b"gradc plan\0\0\0\0\0\x06";
const CHECKSUM: std::ops::Range<usize> = 16..48;
const KEY: std::ops::Range<usize> = 48..80;
const NODES: std::ops::Range<usize> = 80..88;
/// Where the image begins: at a cache line of a file that does so.
const IMAGE: usize = 128;

/// The file of an image, to which `write` appends the image; `None` where that answers false.
pub(super) fn seal(nodes: usize, key: &Key, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<Vec<u8>> {
    let mut file = vec![0; IMAGE];
    file[..CHECKSUM.start].copy_from_slice(&MAGIC);
    file[KEY].copy_from_slice(&key.0);
    file[NODES].copy_from_slice(&(nodes as u64).to_le_bytes());
    write(&mut file).then(|| {
        let checksum = blake3::hash(&file[CHECKSUM.end..]);
        file[CHECKSUM].copy_from_slice(checksum.as_bytes());
        file
    })
}

/// The number of nodes and the image in a file, if it is whole and the one of this key.
pub(super) fn open(file: &Bytes, key: &Key) -> Option<(usize, Bytes)> {
    let head = file.get(..IMAGE)?;
    let fits = head[..CHECKSUM.start] == MAGIC && head[KEY] == key.0;
    let whole = fits && blake3::hash(&file[CHECKSUM.end..]).as_bytes()[..] == head[CHECKSUM];
    let nodes = u64::from_le_bytes(head[NODES].try_into().ok()?);
    whole.then_some((usize::try_from(nodes).ok()?, file.slice(IMAGE..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_of_the_key_are_opened() {
        let key = Key([7; 32]);
        let image: Vec<u8> = (0..300u32).map(|number| number as u8).collect();
        let write = |file: &mut Vec<u8>| {
            file.extend_from_slice(&image);
            true
        };
        let file = seal(42, &key, write).unwrap();
        let opened = |bytes: &[u8], key| open(&Bytes::copy_from_slice(bytes), key);
        assert_eq!(opened(&file, &key), Some((42, image.clone().into())));
        assert_eq!(opened(&file, &Key([8; 32])), None);
        for length in 0..file.len() {
            assert_eq!(opened(&file[..length], &key), None);
        }
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[position] ^= 1 << bit;
                assert_eq!(opened(&damaged, &key), None, "{position}, {bit}");
            }
        }
        assert!(seal(42, &key, |_| false).is_none());
    }
}
