//! Weights in other files: where they are looked up, and what is refused.

use crate::build::*;
use bytes::Bytes;
use gradc_frontend_onnx::proto::{
    GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, attribute_proto::AttributeType,
};
use gradc_frontend_onnx::{Error, ExternalData, Model, ReadOptions};
use prost::Message;
use std::path::{Path, PathBuf};

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const WEIGHTS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// A tensor of 8 bytes in another file.
fn tensor(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto { key: text(key), value: text(value) };
    TensorProto {
        name: text("w"),
        data_type: Some(2),
        dims: vec![8],
        data_location: Some(1),
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    }
}

fn with(tensor: TensorProto) -> ModelProto {
    let initializer = vec![tensor, f32_tensor("inside", &[1.0])];
    model(GraphProto { initializer, ..graph("x", "x", vec![]) })
}

fn open(folder: &Folder, tensor: TensorProto) -> Result<Model, Error> {
    Model::open(folder.write("model.onnx", &with(tensor).encode_to_vec()))
}

fn bytes(model: &Model) -> &[u8] {
    model.graph.initializers[0].tensor.bytes()
}

#[test]
fn bytes_come_from_the_models_folder() {
    let folder = Folder::new("external");
    folder.write("weights.bin", &WEIGHTS);
    folder.write("sub/weights.bin", &WEIGHTS);
    let at = |entries: &[(&str, &str)]| open(&folder, tensor(entries)).expect("a model");
    assert_eq!(bytes(&at(&[("location", "weights.bin")])), &WEIGHTS[..8]);
    assert_eq!(
        bytes(&at(&[("location", "./sub//weights.bin"), ("offset", "8"), ("length", "8")])),
        &WEIGHTS[8..]
    );
    // Keys of other tools say nothing to us.
    assert_eq!(
        bytes(&at(&[("location", "weights.bin"), ("checksum", "0"), ("basepath", "/")])),
        &WEIGHTS[..8]
    );
}

#[test]
fn attributes_may_be_outside_too() {
    let value = gradc_frontend_onnx::proto::AttributeProto {
        t: Some(tensor(&[("location", "w")])),
        ..attribute("value", AttributeType::Tensor)
    };
    let constant: NodeProto = node("Constant", "", "", "y").with(value);
    let files = [("w".to_owned(), Bytes::from_static(&WEIGHTS))];
    let proto = model(graph("", "y", vec![constant]));
    let model =
        Model::from_bytes(proto.encode_to_vec(), ExternalData::Memory(files.into())).expect("a model");
    let value = model.graph.nodes[0].tensor("value").expect("a tensor").expect("a tensor");
    assert_eq!(value.bytes().as_ptr(), WEIGHTS.as_ptr());
}

#[test]
fn ranges_are_checked() {
    let folder = Folder::new("ranges");
    folder.write("w", &WEIGHTS);
    folder.write("empty", &[]);
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("location", "w"), ("offset", "9")], "it wants 8 bytes at byte 9 of «w», which has 16 bytes"),
        (
            &[("location", "w"), ("offset", "18446744073709551615")],
            "it wants 8 bytes at byte 18446744073709551615 of «w», which has 16 bytes",
        ),
        (&[("location", "empty")], "it wants 8 bytes at byte 0 of «empty», which has 0 bytes"),
        (&[("location", "w"), ("length", "7")], "its type takes 8 bytes, its external data has length 7"),
        (
            &[("location", "w"), ("length", "1125899906842624")],
            "its type takes 8 bytes, its external data has length 1125899906842624",
        ),
        (
            &[("location", "w"), ("length", "-1")],
            "the length of its external data, «-1», is not a number of bytes",
        ),
        (
            &[("location", "w"), ("offset", "0x8")],
            "the offset of its external data, «0x8», is not a number of bytes",
        ),
        (&[("offset", "8")], "its external data has no location"),
        (&[("location", "w"), ("location", "v")], "its external data has two keys location"),
        (&[], "its external data has no location"),
    ];
    for (entries, message) in cases {
        expect(open(&folder, tensor(entries)), "GC0308", &format!("tensor «w»: {message}"));
    }
    let strings = TensorProto { data_type: Some(8), ..tensor(&[("location", "w")]) };
    expect(open(&folder, strings), "GC0308", "tensor «w»: strings cannot be external data");
    let huge = TensorProto { dims: vec![1 << 40, 1 << 40], ..tensor(&[("location", "w")]) };
    assert_eq!(open(&folder, huge).expect_err("too large").code(), "GC0308");
}

#[test]
fn missing_files_are_named() {
    let folder = Folder::new("missing");
    let result = open(&folder, tensor(&[("location", "model.onnx_data")]));
    let error = result.expect_err("missing");
    assert_eq!(error.to_string(), "weights of «w» are in «model.onnx_data», which is not beside the model");
    assert_eq!(error.code(), "GC0304");
    assert_eq!(
        error.help(),
        "put it in the same folder, under exactly this name (1 of 2 tensors needs it, 8 B)"
    );
    let none = Model::from_bytes(with(tensor(&[("location", "d")])).encode_to_vec(), ExternalData::None);
    expect(none, "GC0304", "weights of «w» are in «d», but no folder was given to look in");
    let memory = ExternalData::Memory(Default::default());
    let none = Model::from_bytes(with(tensor(&[("location", "d")])).encode_to_vec(), memory);
    expect(none, "GC0304", "weights of «w» are in «d», which was not given");
}

#[test]
fn names_that_leave_the_folder_are_refused_whatever_the_source() {
    let folder = Folder::new("names");
    folder.write("w", &WEIGHTS);
    let sources = [
        ExternalData::None,
        ExternalData::Directory(folder.0.clone()),
        ExternalData::Directory(PathBuf::new()),
        ExternalData::Directory(PathBuf::from(".")),
        ExternalData::Memory(Default::default()),
    ];
    let cases = [
        ("", "an empty name"),
        (" ", "an empty name"),
        ("a\0b", "a name with a NUL character"),
        ("/etc/passwd", "an absolute path"),
        ("//server/share", "an absolute path"),
        ("\\\\server\\share", "an absolute path"),
        ("C:\\weights", "an absolute path"),
        ("c:weights", "an absolute path"),
        ("..", "outside the model's folder"),
        ("../w", "outside the model's folder"),
        ("sub/../../w", "outside the model's folder"),
        ("sub\\..\\w", "outside the model's folder"),
        ("sub/..", "outside the model's folder"),
        ("sub/.. /w", "outside the model's folder"),
    ];
    for source in sources {
        for (name, reason) in cases {
            let proto = with(tensor(&[("location", name)]));
            let result = Model::from_bytes(proto.encode_to_vec(), source.clone());
            let shown = name.replace('\0', "\\u{0}");
            let message = format!("weights of «w» refer to «{shown}», {reason}: refused");
            expect(result, "GC0305", &message);
        }
    }
    // Dots inside of a name are only dots.
    folder.write("..w", &WEIGHTS);
    folder.write("w..x/...", &WEIGHTS);
    assert!(open(&folder, tensor(&[("location", "..w")])).is_ok());
    assert!(open(&folder, tensor(&[("location", "w..x/...")])).is_ok());
}

#[test]
fn folders_are_refused() {
    let folder = Folder::new("folders");
    folder.write("sub/w", &WEIGHTS);
    for name in ["sub", "sub/", ".", "./"] {
        let message = format!("weights of «w» refer to «{name}», which is not a regular file: refused");
        expect(open(&folder, tensor(&[("location", name)])), "GC0305", &message);
    }
}

#[cfg(unix)]
#[test]
fn links_and_devices_are_refused() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new("links");
    folder.write("real/w", &WEIGHTS);
    symlink(folder.0.join("real/w"), folder.0.join("link")).expect("a link");
    symlink(folder.0.join("real"), folder.0.join("folder_link")).expect("a link");
    symlink("/proc/self/root", folder.0.join("root")).expect("a link");
    symlink("/dev/zero", folder.0.join("zero")).expect("a link");
    for name in ["link", "folder_link/w", "root/etc/passwd", "zero"] {
        let result = open(&folder, tensor(&[("location", name)]));
        assert!(result.as_ref().expect_err("a link").help().contains("--allow-symlinks"));
        let message = format!("weights of «w» refer to «{name}», a symbolic link: refused");
        expect(result, "GC0305", &message);
    }
    let path = folder.write("model.onnx", &with(tensor(&[("location", "folder_link/w")])).encode_to_vec());
    let options = ReadOptions { allow_symlinks: true, ..ReadOptions::default() };
    let model = Model::open_with(&path, &options).expect("a model");
    assert_eq!(bytes(&model), &WEIGHTS[..8]);
    // A link to a device is a device.
    folder.write("model.onnx", &with(tensor(&[("location", "zero")])).encode_to_vec());
    let message = "weights of «w» refer to «zero», which is not a regular file: refused";
    expect(Model::open_with(&path, &options), "GC0305", message);

    let socket = std::os::unix::net::UnixListener::bind(folder.0.join("socket"));
    if socket.is_ok() {
        let message = "weights of «w» refer to «socket», which is not a regular file: refused";
        expect(open(&folder, tensor(&[("location", "socket")])), "GC0305", message);
    }
    std::fs::hard_link(folder.0.join("real/w"), folder.0.join("hard")).expect("a link");
    let message = "weights of «w» refer to «hard», a file with several hard links: refused";
    expect(open(&folder, tensor(&[("location", "hard")])), "GC0305", message);
}
