//! Files of arrays: what is written is read again, and nothing that is read can do harm.

use super::*;
use gradc_ir::{DType, Literal, TensorType};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

/// One array of each element type, with the values that are easily lost.
fn samples() -> Vec<(String, Literal)> {
    let mut samples = vec![
        ("scalar".to_owned(), Literal::scalar(f64::NAN)),
        ("empty".to_owned(), Literal::new([0, 3], &[] as &[f32])),
        (
            "/layer.1/weight:0".to_owned(),
            Literal::new([2, 3], &[1.5f32, -0.0, f32::INFINITY, 1e-45, -1.0, 0.0]),
        ),
        ("with space; and, comma".to_owned(), Literal::new([2], &[f16::from_f32(0.1), f16::NEG_INFINITY])),
        ("truth".to_owned(), Literal::new([3], &[true, false, true])),
        ("größe".to_owned(), Literal::new([2, 1, 2], &[i64::MIN, -1, 0, i64::MAX])),
    ];
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::BF16) {
        samples.push((dtype.name().to_owned(), Literal::scalar_of(dtype, 1.0)));
    }
    samples
}

fn npy_bytes(array: &Literal) -> Vec<u8> {
    let mut bytes = Vec::new();
    npy::write(&mut bytes, array).unwrap();
    bytes
}

fn npz_bytes(arrays: &[(String, Literal)]) -> Vec<u8> {
    npz::write(Cursor::new(Vec::new()), arrays).unwrap().into_inner()
}

fn npy_with(header: &str, data: &[u8]) -> Bytes {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes.into()
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gradc-formats-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn npy_round_trip() {
    for (name, array) in samples() {
        assert_eq!(npy::parse(&name, npy_bytes(&array).into()).unwrap(), array, "{name}");
    }
}

#[test]
fn npy_stores_bf16_as_f32() {
    let array = Literal::new([2], &[bf16::from_f32(1.5), bf16::from_f32(-0.25)]);
    assert_eq!(npy::parse("x", npy_bytes(&array).into()).unwrap(), Literal::new([2], &[1.5f32, -0.25]));
}

#[test]
fn npy_converts_order_and_endianness() {
    let data: Vec<u8> = [1i16, 4, 2, 5, 3, 6].iter().flat_map(|x| x.to_be_bytes()).collect();
    let bytes = npy_with("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }", &data);
    assert_eq!(npy::parse("x", bytes).unwrap(), Literal::new([2, 3], &[1i16, 2, 3, 4, 5, 6]));
    let cube: Vec<u8> = [0u8, 4, 2, 6, 1, 5, 3, 7].to_vec();
    let bytes = npy_with("{'shape': (2, 2, 2), 'fortran_order': True, 'descr': '|u1'}", &cube);
    assert_eq!(npy::parse("x", bytes).unwrap(), Literal::new([2, 2, 2], &[0u8, 1, 2, 3, 4, 5, 6, 7]));
}

#[test]
fn npy_reads_any_nonzero_byte_as_true() {
    let bytes = npy_with("{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", &[0, 2, 255]);
    assert_eq!(npy::parse("x", bytes).unwrap(), Literal::new([3], &[false, true, true]));
}

#[test]
fn npy_refuses_what_it_must() {
    let code = |bytes: Bytes| npy::parse("x.npy", bytes).unwrap_err().code();
    assert_eq!(
        code(npy_with("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\n")),
        "GC0204"
    );
    assert_eq!(code(npy_with("{'descr': '<U4', 'fortran_order': False, 'shape': (), }", &[0; 16])), "GC0204");
    assert_eq!(
        code(npy_with("{'descr': [('a','<f4')], 'fortran_order': False, 'shape': (), }", &[0; 4])),
        "GC0204"
    );
    for shape in [
        "(1099511627776,)",
        "(18446744073709551615, 0)",
        "(4294967296, 4294967296)",
        "(3,)",
        "(-1,)",
        "(1e3,)",
        "5",
    ] {
        let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        assert_eq!(code(npy_with(&header, &[0; 8])), "GC0209", "{shape}");
    }
    // A header that claims 4 GiB.
    let mut huge = b"\x93NUMPY\x02\x00".to_vec();
    huge.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(code(huge.into()), "GC0209");
    assert_eq!(code(Bytes::from_static(b"\x93NUMPY")), "GC0209");
    assert_eq!(code(Bytes::new()), "GC0209");
}

#[test]
fn npz_round_trip_keeps_names_and_order() {
    let arrays = samples();
    let mut archive = npz::Npz::from_bytes("x", npz_bytes(&arrays).into(), &Limits::default()).unwrap();
    let names: Vec<String> = arrays.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(archive.names(), names);
    for (name, array) in &arrays {
        assert_eq!(archive.get(name).unwrap(), *array, "{name}");
    }
    assert_eq!(archive.get("other").unwrap_err().code(), "GC0210");
    assert_eq!(npz_bytes(&arrays), npz_bytes(&arrays));
}

#[test]
fn npz_members_end_where_their_header_says() {
    // A deflated member of zeros that is longer than its array.
    use std::io::Write;
    use zip::write::SimpleFileOptions;
    let array = Literal::new([4], &[0f32; 4]);
    let member = |extra: usize| {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file("x.npy", options).unwrap();
        archive.write_all(&npy_bytes(&array)).unwrap();
        archive.write_all(&vec![0; extra]).unwrap();
        Bytes::from(archive.finish().unwrap().into_inner())
    };
    let get = |bytes| npz::Npz::from_bytes("x.npz", bytes, &Limits::default()).unwrap().get("x");
    assert_eq!(get(member(0)).unwrap(), array);
    assert_eq!(get(member(64 << 20)).unwrap_err().code(), "GC0209");
    let tight = Limits { array_bytes: 15 };
    let error = npz::Npz::from_bytes("x.npz", member(0), &tight).unwrap().get("x").unwrap_err();
    assert_eq!(error.code(), "GC0603");
}

#[test]
fn safetensors_round_trip() {
    let mut arrays = samples();
    arrays.push(("bf16".to_owned(), Literal::new([2], &[bf16::from_f32(1.5), bf16::NAN])));
    arrays.sort_by(|(a, _), (b, _)| a.cmp(b));
    let metadata =
        BTreeMap::from([("target".to_owned(), "loss".to_owned()), ("a".to_owned(), "b".to_owned())]);
    let mut bytes = Vec::new();
    safetensors::write(&mut bytes, &arrays, &metadata).unwrap();
    assert_eq!(safetensors::parse("x", bytes.into()).unwrap(), arrays);
}

#[test]
fn safetensors_refuses_long_headers() {
    let mut bytes = (17u64 << 20).to_le_bytes().to_vec();
    bytes.resize(18 << 20, b' ');
    assert_eq!(safetensors::parse("x", bytes.into()).unwrap_err().code(), "GC0209");
    assert_eq!(safetensors::parse("x", Bytes::from_static(b"\xff\xff")).unwrap_err().code(), "GC0209");
    assert_eq!(safetensors::parse("x", u64::MAX.to_le_bytes().to_vec().into()).unwrap_err().code(), "GC0209");
}

#[test]
fn png_round_trip() {
    let pixels: Vec<u8> = (0..2 * 5 * 3).collect();
    for picture in [Literal::new([2, 15], &pixels), Literal::new([2, 5, 3], &pixels)] {
        let mut bytes = Vec::new();
        png::write("x.png", &mut bytes, &picture).unwrap();
        assert_eq!(png::parse("x.png", &bytes).unwrap(), picture);
    }
    let float = Literal::new([1, 1], &[0f32]);
    assert_eq!(png::write("x.png", &mut Vec::new(), &float).unwrap_err().code(), "GC0804");
}

#[test]
fn png_refuses_bombs() {
    let mut bytes = Vec::new();
    png::write("x.png", &mut bytes, &Literal::new([1, 1], &[0u8])).unwrap();
    // The width, with the checksum of its chunk left wrong on purpose, then right.
    bytes[16..20].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
    assert_eq!(png::parse("x.png", &bytes).unwrap_err().code(), "GC0206");
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(png::parse("x.png", &bytes).unwrap_err().code(), "GC0206");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

/// Flips, cuts and overwrites bytes, and reads the result, which may be an error but must return.
fn mutate(original: &[u8], seed: u64, read: impl Fn(Bytes)) {
    let mut state = seed;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    for _ in 0..3000 {
        let mut bytes = original.to_vec();
        for _ in 0..=random(4) {
            let position = random(bytes.len());
            match random(4) {
                0 => bytes[position] ^= 1 << random(8),
                1 => bytes[position] = [0, 0x7f, 0x80, 0xff, b'9', b'('][random(6)],
                2 if bytes.len() > 1 => bytes.truncate(position.max(1)),
                _ => bytes.insert(position, random(256) as u8),
            }
        }
        read(bytes.into());
    }
}

#[test]
fn mutated_files_are_errors_or_arrays() {
    let limits = Limits { array_bytes: 1 << 20 };
    let array = Literal::new([2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    mutate(&npy_bytes(&array), 1, |bytes| drop(npy::parse("x", bytes)));
    mutate(&npz_bytes(&samples()), 2, |bytes| {
        if let Ok(mut archive) = npz::Npz::from_bytes("x", bytes, &limits) {
            for name in archive.names() {
                let _ = archive.get(&name);
            }
        }
    });
    let mut bytes = Vec::new();
    safetensors::write(&mut bytes, &samples(), &BTreeMap::new()).unwrap();
    mutate(&bytes, 3, |bytes| drop(safetensors::parse("x", bytes)));
    let mut bytes = Vec::new();
    png::write("x.png", &mut bytes, &Literal::new([4, 4], &[7u8; 16])).unwrap();
    mutate(&bytes, 4, |bytes| drop(png::parse("x", &bytes)));
}

#[test]
fn outputs_are_complete_or_untouched() {
    use std::io::Write;
    let folder = Folder::new("output");
    let path = folder.0.join("out.npy");
    let write = |text: &'static str, existing| {
        output::write_atomically(&path, existing, |file| file.write_all(text.as_bytes()))
    };
    write("old", output::Existing::Keep).unwrap();
    assert_eq!(write("new", output::Existing::Keep).unwrap_err().code(), "GC0803");
    let failed = output::write_atomically(&path, output::Existing::Replace, |file| {
        file.write_all(b"half")?;
        Err(std::io::Error::other("the disk is full"))
    });
    assert_eq!(failed.unwrap_err().code(), "GC0802");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    write("new", output::Existing::Replace).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(folder.names(), ["out.npy"]);
    let nowhere = output::write_atomically(folder.0.join("a/b"), output::Existing::Replace, |_| Ok(()));
    assert_eq!(nowhere.unwrap_err().code(), "GC0801");
    let onto_folder = output::write_atomically(&folder.0, output::Existing::Replace, |_| Ok(()));
    assert_eq!(onto_folder.unwrap_err().code(), "GC0802");
}

#[cfg(unix)]
#[test]
fn outputs_are_written_through_links() {
    use std::io::Write;
    let folder = Folder::new("links");
    let (target, link) = (folder.0.join("target"), folder.0.join("link"));
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    output::write_atomically(&link, output::Existing::Replace, |file| file.write_all(b"new")).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn files_are_read_by_path() {
    let folder = Folder::new("read");
    let array = Literal::new([2], &[1f32, 2.0]);
    let path = folder.0.join("x.npy");
    fs::write(&path, npy_bytes(&array)).unwrap();
    assert_eq!(npy::read(&path, &Limits::default()).unwrap(), array);
    assert_eq!(npy::read(&path, &Limits { array_bytes: 0 }).unwrap(), array, "small files are not measured");
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    assert_eq!(npy::read(&path, &Limits { array_bytes: 1 << 10 }).unwrap_err().code(), "GC0603");
    assert_eq!(npy::read(folder.0.join("y.npy"), &Limits::default()).unwrap_err().code(), "GC0209");
    let path = folder.0.join("x.npz");
    fs::write(&path, npz_bytes(&[("x".to_owned(), array.clone())])).unwrap();
    assert_eq!(npz::Npz::open(&path, &Limits::default()).unwrap().get("x").unwrap(), array);
    let ty = TensorType::new(DType::F32, [2]);
    assert_eq!(array.ty(), &ty);
}
