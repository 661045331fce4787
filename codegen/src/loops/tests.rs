//! Text, rules and meaning of kernels.

use super::*;

const EVERYTHING: &str = r#"kernel "every \"thing\"" (b0 "x y": read f32[64], b1: readwrite i64[8], b2 "m": write bool[8]) {
  parallel i0 in 8 {
    a0: f32 = -inf
    a1: i64 = -3
    a2: bool = true
    vector i1 in 8 {
      r0: f32 = load b0[8*i0 + i1]
      r1: f32 = const 0.1
      r2: f32 = const nan
      r3: f32 = const -1e-40
      r4: f32 = muladd r0, r1, r3
      r5: bool = lt r4, r2
      r6: f32 = select r5, r0, r1
      r7: f32 = call "f" r6, r1
      r8: f32 = exp r7
      reduce a0 max r8
    }
    r9: f32 = read a0
    r10: i64 = cast r9
    r11: i64 = index -2*i0 + 3*r10 - 7
    if i0 - 1 ge 0, i0 lt 7, r5x {
      store b1[r10 + 1] = r11
      update add b1[0] = r11
    } else {
      set a1 = r10
    }
    fail 12 if r5x, r10
    r12: f64 = const 1e300
    r13: f64 = atan2 r12, r12
  }
}
"#;

fn everything() -> String {
    let text = EVERYTHING.replace("    if i0", "    r5x: bool = eq r10, r11\n    if i0");
    text.replace("r5x", "r14")
}

#[test]
fn text_round_trip() {
    let text = everything();
    let kernel = parse_kernel(&text).unwrap();
    assert_eq!(kernel.to_string(), text);
    assert_eq!(parse_kernel(&kernel.to_string()).unwrap(), kernel);
    kernel.validate().unwrap();
    let two = format!("// Comment\n{text}{text}");
    assert_eq!(parse_kernels(&two).unwrap(), [kernel.clone(), kernel]);
}

#[test]
fn float_constants_keep_their_bits() {
    let values =
        [0.1f32, -0.0, 1.0 / 3.0, f32::MIN_POSITIVE / 8.0, f32::MAX, f32::INFINITY, 1e10, 16_777_216.0];
    for value in values {
        let mut kernel = Kernel::new("constants");
        let narrow = kernel.register(Scalar::F32);
        let wide = kernel.register(Scalar::F64);
        let constant = |value| ScalarOp::Constant(Constant::Float(value));
        kernel.body = vec![
            Stmt::Let { reg: narrow, op: constant(value.into()), args: vec![] },
            Stmt::Let { reg: wide, op: constant(f64::from(value) / 3.0), args: vec![] },
        ];
        assert_eq!(parse_kernel(&kernel.to_string()).unwrap(), kernel);
    }
}

#[test]
fn parse_errors_say_where_and_what() {
    let error = parse_kernel("kernel \"k\" () {\n  store b0[i0 = r0\n}").unwrap_err();
    assert_eq!(error.to_string(), "line 2: expected `]`, found \"=\"");
    let error = parse_kernel("kernel \"k\" () {").unwrap_err();
    assert_eq!(error.to_string(), "line 1: expected a statement, found \"\"");
    for cut in 0..everything().len() {
        // Every prefix is an error or a kernel, never a panic.
        let text = everything();
        let complete = parse_kernel(&text[..cut]).is_ok();
        assert_eq!(complete, cut >= text.len() - 1);
    }
    let deep = format!("kernel \"k\" () {}", "{ for i0 in 1 ".repeat(100_000));
    assert!(parse_kernel(&deep).is_err());
}

/// Checks that a body breaks a rule, with a message.
fn rejected(body: &str, message: &str) {
    let text = format!("kernel \"k\" (b0: read f32[4], b1: write f32[4]) {{ {body} }}");
    let error = parse_kernel(&text).unwrap().validate().unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn broken_rules() {
    rejected("store b1[0] = r0", "r0 is not visible here");
    rejected("r0: f32 = load b1[0]", "b1 is write only");
    rejected("r0: f32 = load b0[0] store b0[0] = r0", "b0 is read only");
    rejected("r0: i32 = load b0[0]", "r0 should be f32");
    rejected("r0: f32 = load b0[i0]", "i0 is used outside of its loop");
    rejected("for i0 in 2 { r0: f32 = load b0[i0] } store b1[0] = r0", "r0 is not visible here");
    rejected("r0: f32 = const 1.0 r0: f32 = const 2.0", "r0 is unknown or assigned twice");
    rejected("for i0 in 2 { parallel i1 in 2 { } }", "parallel loop i1");
    rejected("r0: f32 = const 0.0 store b1[0] = r0 parallel i1 in 2 { }", "parallel loop i1");
    rejected("vector i0 in 2 { vector i1 in 2 { } }", "vector loop i1");
    rejected("for i0 in 2 { for i0 in 2 { } }", "i0 is unknown or in use");
    rejected("r0: f32 = load b0[0] r1: f32 = and r0, r0", "and of f32");
    rejected("r0: f32 = load b0[0] r1: f32 = add r0", "1 operands instead of 2");
    rejected("for i0 in 2 { a0: f32 = 0.0 } r0: f32 = read a0", "a0 is not visible here");
    rejected("r0: f32 = load b0[0] fail 3 if r0, r0", "r0 should be bool");
    rejected("tile i0 in 2 { tilevector i1 in 2 { } }", "tile loop i0");
    rejected("tile i0 in 2 { tile i1 in 2 { for i2 in 2 { } } }", "tile loop i0");
    rejected("tile i0 in 1 { tile i1 in 2 { tilevector i2 in 2 { vector i3 in 2 { } } } }", "vector loop i3");
    rejected("tile i0 in 1 { tile i1 in 2 { tilevector i2 in 2 { tile i3 in 2 { } } } }", "tile loop i3");
    let three = |inner: &str, between: &str| {
        format!(
            "tile i0 in 1 {{ tile i1 in 2 {{ r0: f32 = const 1.0 {between} tilevector i2 in 2 {{ {inner} }} }} }}"
        )
    };
    rejected(&three("", "store b1[i1] = r0"), "b1 is written between tile loops");
    rejected(&three("", "for i3 in 2 { }"), "tile loop i0");
    let fails = "r1: bool = eq r0, r0 r2: i64 = const 1 fail 1 if r1, r2";
    rejected(&three(fails, ""), "cannot fail");
}

#[test]
fn interpreter_checks_positions_and_failures() {
    let run = |body: &str| {
        let text = format!("kernel \"k\" (b0: readwrite i64[3]) {{ {body} }}");
        let kernel = parse_kernel(&text).unwrap();
        kernel.validate().unwrap();
        let mut buffers = vec![[5i64, 6, 7].iter().flat_map(|x| x.to_ne_bytes()).collect()];
        interpret(&kernel, &mut buffers)
    };
    assert_eq!(run("for i0 in 3 { r0: i64 = load b0[i0] }"), Ok(()));
    let outside = |position| Err(InterpretError::OutOfBounds { buffer: BufferId(0), position, elements: 3 });
    assert_eq!(run("for i0 in 4 { r0: i64 = load b0[i0] }"), outside(3));
    assert_eq!(run("r0: i64 = load b0[0] store b0[r0 - 6] = r0"), outside(-1));
    let failing =
        "for i0 in 3 { r0: i64 = load b0[i0] r1: i64 = const 6 r2: bool = eq r0, r1 fail 9 if r2, r0 }";
    assert_eq!(run(failing), Err(InterpretError::Failed(Failure { code: 9, value: 6 })));
    assert_eq!(interpret(&Kernel::new("k"), &mut []), Ok(()));
}

#[test]
fn tiles_are_parts_of_the_whole() {
    let text = "kernel \"k\" (b0: readwrite i64[24]) {
  tile i0 in 2 {
    tile i1 in 3 {
      r0: i64 = index 100*i0 + 10*i1
      tilevector i2 in 4 {
        r1: i64 = index i2
        r2: i64 = add r0, r1
        store b0[12*i0 + 4*i1 + i2] = r2
      }
    }
  }
}
";
    let kernel = parse_kernel(text).unwrap();
    assert_eq!(kernel.to_string(), text);
    kernel.validate().unwrap();
    assert_eq!(kernel.tile_extents(), Some([2, 3, 4]));
    type Run<'a> = &'a dyn Fn(&mut [Vec<u8>]) -> Result<(), InterpretError>;
    let run = |run: Run| -> Vec<i64> {
        let mut buffers = [vec![0xff; 8 * 24]];
        run(&mut buffers).unwrap();
        buffers[0].chunks(8).map(|word| i64::from_ne_bytes(word.try_into().unwrap())).collect()
    };
    let place = |index: i64| 100 * (index / 12) + 10 * (index / 4 % 3) + index % 4;
    let whole = run(&|buffers| interpret(&kernel, buffers));
    assert_eq!(whole, (0..24).map(place).collect::<Vec<_>>());
    let tile = run(&|buffers| interpret_tile(&kernel, buffers, 1, (1, 3), (2, 4)));
    let inside = |index: i64| index / 12 == 1 && index / 4 % 3 >= 1 && index % 4 >= 2;
    assert_eq!(tile, (0..24).map(|index| if inside(index) { place(index) } else { -1 }).collect::<Vec<_>>());
}

#[test]
fn status_holds_code_and_value() {
    for (code, value) in [(1, 0), (65535, -1), (7, 1 << 40), (9, -(1 << 40))] {
        assert_eq!(unpack_status(pack_status(code, value)), Some((code, value)));
    }
    assert_eq!(unpack_status(0), None);
    assert_eq!(unpack_status(pack_status(3, i64::MAX)), Some((3, (1 << 47) - 1)));
}

#[test]
fn keys_ignore_names() {
    let a = parse_kernel("kernel \"a\" (b0 \"x\": read f32[4]) { }").unwrap();
    let b = parse_kernel("kernel \"b\" (b0 \"y\": read f32[4]) { }").unwrap();
    let c = parse_kernel("kernel \"b\" (b0 \"y\": read f32[5]) { }").unwrap();
    assert_eq!(a.key(), b.key());
    assert_ne!(a.key(), c.key());
}
