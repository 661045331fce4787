//! The same kernels through an object file, the system's linker and `dlopen`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;

use cranelift_module::{Linkage, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::Function;
use crate::emit::{IsaOptions, define_kernel, host_isa};
use crate::loops::parse_kernel;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn dlclose(handle: *mut c_void) -> c_int;
}

const KERNEL: &str = "kernel \"object\" (b0: read f32[11], b1: write f32[11]) {
  parallelvector i0 in 11 {
    r0: f32 = load b0[i0]
    r1: f32 = tan r0
    r2: f32 = exp r1
    store b1[i0] = r2
  }
}";

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn build(folder: &Path) -> CString {
    let isa = host_isa(IsaOptions::object()).unwrap();
    let builder = ObjectBuilder::new(isa, "kernels", default_libcall_names()).unwrap();
    let mut module = ObjectModule::new(builder);
    let kernel = parse_kernel(KERNEL).unwrap();
    define_kernel(&mut module, &kernel, "gradc_kernel", Linkage::Export).unwrap();
    std::fs::write(folder.join("kernels.o"), module.finish().emit().unwrap()).unwrap();
    let runtime = "#include <math.h>\nfloat gradc_f32_tan(float x) { return tanf(x); }\n";
    std::fs::write(folder.join("runtime.c"), runtime).unwrap();
    let library = folder.join("kernels.so");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-z,defs", "-o"])
        .args([&library, &folder.join("kernels.o"), &folder.join("runtime.c")])
        .arg("-lm"));
    CString::new(library.to_str().unwrap()).unwrap()
}

#[test]
#[cfg(unix)]
fn object_file_links_and_runs() {
    let folder = std::env::temp_dir().join(format!("gradc-object-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let library = build(&folder);
    let x: Vec<f32> = (0..11).map(|k| k as f32 * 0.1 - 0.5).collect();
    let mut y = vec![0f32; 11];
    let buffers = [x.as_ptr().cast_mut().cast::<u8>(), y.as_mut_ptr().cast()];
    // The library was just built from a kernel with this signature, over buffers of these sizes.
    unsafe {
        let handle = dlopen(library.as_ptr(), 2);
        assert!(!handle.is_null());
        let symbol = dlsym(handle, c"gradc_kernel".as_ptr());
        assert!(!symbol.is_null());
        let function = std::mem::transmute::<*mut c_void, Function>(symbol);
        assert_eq!(function(buffers.as_ptr(), 0, 11), 0);
        assert_eq!(dlclose(handle), 0);
    }
    std::fs::remove_dir_all(&folder).unwrap();
    for (x, y) in x.iter().zip(&y) {
        let expected = x.tan().exp();
        assert!((y - expected).abs() <= 4e-7 * expected, "{x}: {y} instead of {expected}");
    }
}
