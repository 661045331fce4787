//! Compiled graphs as bytes: read back they compute the same, and no bytes are more than refused.

mod common;

use common::{graph, inputs};
use gradc_codegen::{Aligned, CompileOptions, Executable, Image};
use gradc_ir::{Builder, DType, Graph, Literal, Op, ReduceOp, ScanOp, TensorType, Value};
use gradc_kernels::Team;
use std::sync::Arc;

/// A product with a constant, a loop with a constant in it, a lookup and a sort.
fn example() -> Graph {
    let step = {
        let builder = Builder::new("step");
        let carry = builder.input("carry", TensorType::new(DType::F32, [6]));
        let constant = builder.constant(Literal::new([6], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let next = (builder.expr(carry) * constant.exp()).value();
        builder.finish(&[next])
    };
    let scan = ScanOp { body: Arc::new(step), trip: 3, constants: 0, carries: 1, reverse: false };
    graph(&[(DType::F32, &[4, 8]), (DType::I64, &[2])], |builder: &Builder, values: &[Value]| {
        let weights: Vec<f32> = (0..48).map(|x| x as f32 / 7.0).collect();
        let weights = builder.constant(Literal::new([8, 6], &weights));
        let product = builder.expr(values[0]).matmul(weights);
        let row = builder.build(Op::Gather { axis: 0 }, &[product.value(), values[1]]);
        let sorted = builder.build(Op::ArgSort { axis: 1, count: 6, descending: true }, &[row.value()]);
        let sum = row.reduce(ReduceOp::Sum, &[0]);
        let last = builder.build(Op::Scan(scan.clone()), &[sum.value()]).project(0);
        vec![row.value(), sorted.value(), last.value()]
    })
}

fn options() -> CompileOptions {
    CompileOptions { threads: 1, profile: false, arena_limit: None }
}

fn written(image: &Image, graph: &Graph) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(image.write(graph, 1 << 20, &mut bytes));
    bytes
}

fn run(executable: &Executable, graph: &Graph) -> Vec<Vec<u8>> {
    let mut inputs = inputs(graph, 1, 1.0);
    inputs[1] = Literal::new([2], &[3i64, 1]);
    let mut outputs: Vec<Aligned> = graph.output_types().iter().map(|ty| Aligned::new(ty.bytes())).collect();
    let inputs: Vec<Aligned> = inputs.iter().map(|input| Aligned::copy_of(input.bytes())).collect();
    let mut workspace = executable.workspace(Arc::new(Team::new(1)));
    executable
        .run(
            &mut workspace,
            inputs.iter().map(Aligned::as_slice),
            outputs.iter_mut().map(Aligned::as_mut_slice),
        )
        .unwrap();
    outputs.iter().map(|output| output.as_slice().to_vec()).collect()
}

#[test]
fn images_read_back_compute_the_same() {
    let graph = example();
    let image = Image::new(&graph, &options()).unwrap();
    let bytes = written(&image, &graph);
    // An equal graph in other memory: its constants are found by their positions.
    let again = example();
    let read = Image::from_bytes(&bytes.clone().into(), &again).unwrap();
    assert_eq!(written(&read, &again), bytes);
    let [one, two] = [image, read].map(|image| image.load().unwrap());
    assert_eq!(one.program().to_string(), two.program().to_string());
    assert_eq!(one.program().kernels, two.program().kernels);
    assert_eq!(run(&one, &graph), run(&two, &graph));
}

#[test]
fn tensors_of_the_graph_are_not_written() {
    let weights: Vec<f32> = (0..1 << 16).map(|x| x as f32).collect();
    let weights = Literal::new([1 << 16], &weights);
    let with = |scale: bool| {
        graph(&[(DType::F32, &[1 << 16])], |builder: &Builder, values: &[Value]| {
            let constant = builder.constant(weights.clone());
            let constant = if scale { constant * builder.expr(values[0]) } else { constant };
            vec![(constant + builder.expr(values[0])).value()]
        })
    };
    let own = with(true);
    let image = Image::new(&own, &options()).unwrap();
    assert!(written(&image, &own).len() < 1 << 15);
    // To a graph that does not hold it, it is a tensor like any other, and too large.
    let other = graph(&[(DType::F32, &[1 << 16])], |_: &Builder, values: &[Value]| vec![values[0]]);
    let mut bytes = Vec::new();
    assert!(!image.write(&other, 1 << 10, &mut bytes) && bytes.is_empty());
    assert!(written(&image, &other).len() > 1 << 18);
}

/// Whoever reads files has a checksum; what reads images does without.
#[test]
fn damaged_bytes_are_refused_or_read_but_never_a_panic() {
    let graph = example();
    let bytes = written(&Image::new(&graph, &options()).unwrap(), &graph);
    let read = |bytes: Vec<u8>| Image::from_bytes(&bytes.into(), &graph).is_some();
    assert!(read(bytes.clone()));
    let mut refused = 0;
    let description = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for position in 0..description {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            refused += usize::from(!read(damaged));
        }
        assert!(!read(bytes[..position].to_vec()), "{position}");
    }
    assert!(refused > description, "{refused} of {}", description * 8);
    assert!(!read(Vec::new()) && !read(vec![0xff; 4096]) && !read(vec![0; 4096]));
}
