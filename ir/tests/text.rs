//! The text form: parse and print are inverses, faults are errors with a place, and no text makes the parser panic.

use gradc_ir::testing::{Random, RandomOptions, operator_names, random_graph};
use gradc_ir::*;
use half::{bf16, f16};
use std::collections::BTreeSet;
use std::sync::Arc;

const LINEAR: &str = "\
graph @linear(%x: f32[4,3], %w: f32[3,2], %b: f32[2]) {
  %3: f32[4,2] = dot %x, %w lhs=[1] rhs=[0]
  %4: f32[4,2] = broadcast %b dims=[1]
  %5: f32[4,2] = add %3, %4
  return %5
}";

/// Text is canonical: it parses, and prints as itself.
#[track_caller]
fn check_canonical(text: &str) -> Graph {
    let graph = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(print(&graph), text);
    assert_eq!(graph.check(), Ok(()));
    graph
}

#[track_caller]
fn check_round_trip(graph: &Graph) {
    let text = print(graph);
    let parsed = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(parsed, *graph, "{text}");
    assert_eq!(print(&parsed), text);
}

#[track_caller]
fn check_error(text: &str, wanted: &str) {
    let error = parse(text).expect_err("the text has a fault");
    assert_eq!(error.to_string(), wanted, "{text}");
}

/// The error of a graph with input `%x: f32[2,3]` and these lines.
#[track_caller]
fn check_statement_error(statements: &str, wanted: &str) {
    check_error(&format!("graph @f(%x: f32[2,3]) {{\n{statements}\n}}"), wanted);
}

fn mentioned(graph: &Graph, names: &mut BTreeSet<&'static str>) {
    for (_, node) in graph.iter() {
        names.insert(node.op.name());
        match &node.op {
            Op::Scan(scan) => mentioned(&scan.body, names),
            Op::Fused(fused) => mentioned(&fused.body, names),
            _ => {}
        }
    }
}

#[test]
fn the_linear_layer_is_canonical() {
    let graph = check_canonical(LINEAR);
    assert_eq!(graph.name(), "linear");
    assert_eq!(graph.len(), 6);
    assert_eq!(graph.to_string(), LINEAR);
}

#[test]
fn every_operator_round_trips() {
    let mut names = BTreeSet::new();
    for seed in 0..1500 {
        let (graph, _) = random_graph(seed, &RandomOptions::default());
        assert_eq!(graph.check(), Ok(()), "seed {seed}\n{graph}");
        check_round_trip(&graph);
        mentioned(&graph, &mut names);
    }
    let missing: Vec<_> = operator_names().difference(&names).copied().collect();
    assert!(missing.is_empty(), "random graphs never have {missing:?}");
}

#[test]
fn random_graphs_stay_inside_their_options() {
    let options = RandomOptions {
        dtypes: vec![DType::F32],
        loops: false,
        fused: false,
        accepts: |op| !matches!(op, Op::Conv(_)),
        ..RandomOptions::default()
    };
    for seed in 0..200 {
        let (graph, arguments) = random_graph(seed, &options);
        let types: Vec<&TensorType> = graph.inputs().iter().map(|input| &input.ty).collect();
        assert_eq!(types, arguments.iter().map(Literal::ty).collect::<Vec<_>>());
        for (_, node) in graph.iter() {
            assert_eq!(node.ty().dtype, DType::F32, "seed {seed}\n{graph}");
            assert!(!matches!(node.op, Op::Conv(_) | Op::Scan(_) | Op::Fused(_)), "seed {seed}\n{graph}");
        }
        assert_eq!(random_graph(seed, &options), (graph, arguments), "the same seed gives the same graph");
    }
}

#[test]
fn attributes_print_where_they_are_unusual() {
    check_canonical(
        "\
graph @attributes(%x: f32[2,4,9,9], %w: f32[6,2,3,3], %i: i64[5]) {
  %3: f32[2,6,5,9] = conv %x, %w stride=[2,1] dilation=[1,2] pad_low=[1,-1] groups=2
  %4: f32[2,4,9,9] = conv_input %3, %w stride=[2,1] dilation=[1,2] pad_low=[1,-1] groups=2
  %5: f32[6,2,3,3] = conv_weight %x, %3 stride=[2,1] dilation=[1,2] pad_low=[1,-1] groups=2
  %6: f32[2,6,7,7] = conv %x, %w groups=2
  %7: f32[2,4,4,4] = window_max %x window=[1,1,3,3] stride=[1,1,2,2]
  %8: i64[2,4,8,10] = window_arg_max %x window=[1,1,2,2] low=[0,0,0,1] high=[0,0,0,1]
  %9: f32[2,4,9,9] = window_spread %7 window=[1,1,3,3] stride=[1,1,2,2]
  %10: f32[2,2,9,9] = slice %x start=[0,0,0,0] limit=[2,4,9,9] step=[1,2,1,1]
  %11: f32[] = constant -0.0
  %12: f32[2,2,17,10] = pad %10, %11 low=[0,0,0,-1] high=[0,0,0,2] interior=[0,0,1,0]
  %13: f32[2,9,9] = dot %x, %x lhs_batch=[0] rhs_batch=[0] lhs=[1,2] rhs=[1,2]
  %14: f32[2,5,9,9] = gather %x, %i axis=1
  %15: f32[2,4,9,9] = scatter_add %x, %i, %14 axis=1
  %16: f32[2,4,9,9] = cumulative_sum %15 axis=3 exclusive=true
  %17: i64[2,4,9,9] = arg_sort %16 axis=3 count=9 descending=true
  %18: f32[2,9,4,9] = transpose %9 permutation=[0,3,1,2]
  %19: f32[4,2] = iota axis=0
  %20: i64[2] = arg_max %19 axis=0 last=true
  %21: f32[2,4,9,9] = tag %9 id=3
  return %4, %5, %6, %8, %12, %13, %17, %18, %20, %21, %x, %i
}",
    );
}

#[test]
fn bodies_print_inside_their_node() {
    let graph = check_canonical(
        "\
graph @loops(%a: f32[3], %b: f32[3], %c: f32[5,3]) {
  %3: (f32[3], f32[5,3]) = scan %a, %b, %c trip=5 constants=1 carries=1 reverse=true {
    graph @body(%k: f32[3], %h: f32[3], %s: f32[3]) {
      %3: (f32[3]) = fused %k, %s {
        graph @inner(%p: f32[3], %q: f32[3]) {
          %2: f32[3] = mul %p, %q
          return %2
        }
      }
      %4: f32[3] = project %3 part=0
      %5: f32[3] = add %h, %4
      return %5, %h
    }
  }
  %4: f32[3] = project %3 part=0
  %5: f32[5,3] = project %3 part=1
  return %4, %5
}",
    );
    let Op::Scan(scan) = &graph.node(Value::from_index(3)).op else { panic!("the first node is the loop") };
    assert!(scan.reverse);
    assert_eq!(scan.body.name(), "body");
}

#[test]
fn names_are_quoted_where_they_must_be() {
    let builder = Builder::new("a \"graph\"");
    let names = [
        "bert/x:0",
        "",
        "7",
        "tab\tend\u{1b}[0m\u{202e}",
        "back\\slash\nline",
        "größe",
        "layer1.0.weight",
        "_",
    ];
    let values: Vec<Value> =
        names.iter().map(|name| builder.input(name, TensorType::scalar(DType::F32))).collect();
    let graph = builder.finish(&values);
    let text = print(&graph);
    assert!(text.contains(r#"graph @"a \"graph\""("#), "{text}");
    assert!(text.contains(r#"%"tab\tend\u{1b}[0m\u{202e}": f32[]"#), "{text}");
    assert!(text.contains(", %layer1.0.weight: f32[]"), "{text}");
    assert_eq!(text.lines().count(), 3);
    check_round_trip(&graph);
}

#[test]
fn constants_keep_their_bits() {
    let f32s =
        [0.0, -0.0, 0.1, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let f64s = [0.1, 5e-324, f64::MAX, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001), 1e300, -2.5e-9];
    let nan32 = [f32::from_bits(0x7f80_0001), -f32::NAN, f32::from_bits(0x7fc0_0001)];
    let every_half: Vec<u16> = (0..=u16::MAX).collect();
    let f16s: Vec<f16> = every_half.iter().map(|&bits| f16::from_bits(bits)).collect();
    let bf16s: Vec<bf16> = every_half.iter().map(|&bits| bf16::from_bits(bits)).collect();
    let odd_bools = Literal::from_bytes(TensorType::new(DType::Bool, [3]), vec![0, 1, 7].into());
    let literals = [
        Literal::new([f32s.len()], &f32s),
        Literal::new([f64s.len()], &f64s),
        Literal::new([3, 1], &nan32),
        Literal::new([65536], &f16s),
        Literal::new([256, 256], &bf16s),
        Literal::new([2], &[i64::MIN, i64::MAX]),
        Literal::new([2], &[u64::MIN, u64::MAX]),
        Literal::new([2], &[i8::MIN, i8::MAX]),
        Literal::new([3], &[true, false, true]),
        Literal::new([2, 0], &[0.0f32; 0]),
        Literal::new([2, 3], &[-0.0f32; 6]),
        Literal::new([1], &[1u8]),
        Literal::scalar(f16::from_f32(0.1)),
        odd_bools.expect("three bytes for three bools"),
    ];
    let mut random = Random::new(7);
    let wild32: Vec<f32> = (0..3000).map(|_| f32::from_bits(random.bits() as u32)).collect();
    let wild64: Vec<f64> = (0..3000).map(|_| f64::from_bits(random.bits())).collect();
    for literal in literals.into_iter().chain([Literal::new([3000], &wild32), Literal::new([3000], &wild64)])
    {
        let builder = Builder::new("constant");
        let value = builder.constant(literal).value();
        check_round_trip(&builder.finish(&[value]));
    }
}

#[test]
fn constants_print_shortly() {
    check_canonical(
        "\
graph @constants() {
  %0: f32[] = constant 0.1
  %1: f32[3] = constant [1.0, -0.0, 1e-7]
  %2: f32[2,2] = constant splat 0.5
  %3: f32[4] = constant [nan, inf, -inf, 0xffc00000]
  %4: bool[2] = constant [true, false]
  %5: f16[] = constant 0.099975586
  %6: i64[0] = constant []
  %7: u8[1] = constant [255]
  return %0, %1, %2, %3, %4, %5, %6, %7
}",
    );
}

#[test]
fn short_display_leaves_large_constants_out() {
    let builder = Builder::new("short");
    let many: Vec<f32> = (0..17).map(|index| index as f32).collect();
    let outputs = [
        builder.constant(Literal::new([17], &many)).value(),
        builder.constant(Literal::new([2], &many[..2])).value(),
        builder.constant(Literal::new([400], &[1.0f32; 400])).value(),
    ];
    let text = builder.finish(&outputs).display_short().to_string();
    assert_eq!(
        text,
        "\
graph @short() {
  %0: f32[17] = constant <...>
  %1: f32[2] = constant [0.0, 1.0]
  %2: f32[400] = constant splat 1.0
  return %0, %1, %2
}"
    );
    assert!(parse(&text).is_err());
}

#[test]
fn free_text_parses_into_the_same_graph() {
    let free = "// pass: simplify
        graph @linear(%x: f32[4, 3], %\"w\": f32[3,2],
                      %b: f32[2]) { // the weights
          %product: f32[4,2] = dot %x,
              %w rhs=[0] lhs=[1] lhs_batch=[] %dead: f32[4,3] = neg %x
          %again: f32[4,2] = dot %x, %w lhs=[1] rhs=[0]
          %77: f32[4,2] = broadcast %b dims=[1]\r
          %y: f32[4,2] = add %again, %77 return %y }";
    assert_eq!(print(&parse(free).expect("a graph")), LINEAR);
}

#[test]
fn several_graphs_parse_in_order() {
    let text = format!("{LINEAR}\n\n// the next\n{LINEAR} graph @none() {{ return }}");
    let names: Vec<String> =
        parse_all(&text).expect("three graphs").iter().map(|graph| graph.name().to_string()).collect();
    assert_eq!(names, ["linear", "linear", "none"]);
    assert_eq!(parse_all(" // nothing\n"), Ok(vec![]));
    check_error(&text, "9:1: expected the end of the text, found `graph`");
}

#[test]
fn faults_of_the_text_have_a_place() {
    check_error("", "1:1: expected `graph`, found the end of the text");
    check_error("graph linear() {}", "1:7: expected a graph name such as `@name`, found `linear`");
    check_error("graph @f(%1: f32[])", "1:10: expected an input such as `%name: f32[2]`, found %1");
    check_error("graph @f(%x: f33[])", "1:14: expected a type such as `f32[2,3]`, found `f33`");
    check_error("graph @f(%x: f32[-1])", "1:18: expected an axis length, found `-1`");
    check_error("graph @f(%x: f32[2 3])", "1:20: expected `,` or `]`, found `3`");
    check_error("graph @f(%x: f32[4294967296,4294967296])", "1:14: the type is too large");
    check_error("graph @f(%x: f32[], %x: f32[])", "1:21: value %x is defined twice");
    check_error("graph @\"f", "1:7: the quoted name does not end");
    check_error("graph @\"\\q\"", "1:7: unknown escape in a quoted name");
    check_error("graph @f ~", "1:10: unexpected character '~'");
    check_error("graph @f() { return", "1:20: expected `}`, found the end of the text");
    check_error(
        "graph @f() { add }",
        "1:14: expected a definition such as `%3: f32[2] = ..` or `return`, found `add`",
    );
}

#[test]
fn faults_of_a_statement_have_a_place() {
    let case = check_statement_error;
    case("  %1: f32[2] = ned %x\n return", "2:16: unknown operator `ned`");
    case("  %1: f32[2] = input\n return", "2:16: unknown operator `input`");
    case("  %1: f32[2,3] = neg %y\n return", "2:22: unknown value %y");
    case(
        "  %1: f32[2,3] = neg %2\n %2: f32[2,3] = abs %x return",
        "2:22: value %2 is used before its definition",
    );
    case("  %x: f32[2,3] = neg %x\n return", "2:3: value %x is defined twice");
    case("  %1: f32[3,2] = neg %x\n return", "2:7: the node has type f32[2,3], not f32[3,2]");
    case("  %1: (f32[2,3]) = neg %x\n return", "2:7: the node has type f32[2,3], not (f32[2,3])");
    case("  %1: f32[2,3] = neg %x, %x\n return", "2:18: neg: takes 1 operands, got 2");
    case("  %1: f32[2,3] = neg %x,\n return", "3:2: expected a value such as `%3`, found `return`");
    case("  %1: i64[2,3] = not %x\n return", "2:18: not: operand 0 must be an integer or bool, got f32");
    case("  %1: f32[3] = reduce_sum %x\n return", "2:16: `reduce_sum` lacks the attribute `axes`");
    case(
        "  %1: f32[3] = reduce_sum %x axes=0\n return",
        "2:30: attribute `axes` must be a list of numbers in range",
    );
    case(
        "  %1: f32[3] = reduce_sum %x axes=[-1]\n return",
        "2:30: attribute `axes` must be a list of numbers in range",
    );
    case(
        "  %1: f32[3] = reduce_sum %x axes=[0] keep=true\n return",
        "2:39: `reduce_sum` has no attribute `keep`",
    );
    case("  %1: f32[3] = reduce_sum %x axes=[0] axes=[0]\n return", "2:39: attribute `axes` is given twice");
    case(
        "  %1: f32[3] = reduce_sum %x axes=[2]\n return",
        "2:16: reduce_sum: axis 2 is out of range for rank 2",
    );
    case("  %1: f32[2] = constant [1.0]\n return", "2:25: the type has 2 elements, the constant 1");
    case("  %1: i8[] = constant 128\n return", "2:23: `128` is no value of type i8");
    case("  %1: f32[] = constant 1e39\n return", "2:24: `1e39` is no value of type f32");
    case("  %1: (f32[]) = iota axis=0\n return", "2:7: expected a tensor type, found a tuple type");
    case("  %1: f32[1000000000000] = constant splat 1\n return", "2:37: too many bytes of `splat` constants");
    case(
        "  %1: (f32[2,3]) = fused %x { graph @b(%a: f32[2,3]) { return %a } }\n return %1",
        "3:9: value %1 is a tuple: return its parts",
    );
    case(
        "  %1: (f32[2,3]) = fused %x { graph @b(%a: f32[2,3]) { return %x } }\n return",
        "2:63: unknown value %x",
    );
    case(
        "  %1: () = scan trip=1 constants=18446744073709551615 carries=18446744073709551615 { graph @b() { return } }\n return",
        "2:12: scan: attribute `carries` are more than there are operands or body outputs",
    );
}

#[test]
fn deep_nesting_is_an_error() {
    let open = "graph @g() { %0: () = fused { ".repeat(10_000);
    let error = parse(&open).expect_err("far too deep");
    assert_eq!(error.kind, ParseErrorKind::TooDeep);
    let mut graph = Builder::new("leaf").finish(&[]);
    for _ in 0..63 {
        let builder = Builder::new("level");
        let x = builder.input("x", TensorType::scalar(DType::F32));
        let sum = builder.build(Op::Unary(UnaryOp::Exp), &[x]).value();
        let arguments: Vec<Value> = graph.inputs().iter().map(|_| sum).collect();
        let inner = builder.build(Op::Fused(FusedOp { body: Arc::new(graph) }), &arguments);
        let outputs: Vec<Value> =
            if arguments.is_empty() { vec![sum] } else { vec![inner.project(0).value()] };
        graph = builder.finish(&outputs);
    }
    check_round_trip(&graph);
}

#[test]
fn damaged_text_never_panics() {
    let pieces = [
        "%",
        "@",
        "=",
        ",",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        ":",
        "\"",
        "\\",
        "-",
        "9",
        "0",
        "//",
        "\n",
        "é",
        "splat",
        "return",
        "graph",
        "%3",
        "%x0",
        "18446744073709551615",
        "-9223372036854775808",
        "axis=",
        "f32",
        "nan",
    ];
    let mut random = Random::new(42);
    let mut survivors = 0;
    for seed in 0..300 {
        let (graph, _) = random_graph(seed, &RandomOptions::default());
        let text: Vec<char> = print(&graph).chars().collect();
        for _ in 0..20 {
            let mut damaged = text.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(damaged.len());
                let end = (at + random.below(6)).min(damaged.len());
                let piece: Vec<char> = match random.below(3) {
                    0 => vec![],
                    1 => pieces[random.below(pieces.len())].chars().collect(),
                    _ => {
                        let from = random.below(damaged.len());
                        damaged[from..(from + 8).min(damaged.len())].to_vec()
                    }
                };
                damaged.splice(at..end, piece);
            }
            let damaged: String = damaged.into_iter().collect();
            if let Ok(parsed) = parse(&damaged) {
                survivors += 1;
                assert_eq!(parsed.check(), Ok(()), "{damaged}");
                check_round_trip(&parsed);
            }
        }
        let cut: String = text[..random.below(text.len())].iter().collect();
        assert!(parse(&cut).is_err(), "{cut}");
    }
    assert!(survivors > 50, "only {survivors} of 6000 damaged texts parse: the test hardly tests");
}
