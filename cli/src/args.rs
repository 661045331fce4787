//! The command line as types.

use crate::commands;
use clap::builder::{Styles, styling::AnsiColor};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// Gradients of ONNX models, compiled to native code.
#[derive(Parser, Debug)]
#[command(name = "gradc", disable_version_flag = true, styles = STYLES, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    pub talk: Talk,
    /// Print the version (with --verbose: what this build and this machine can do)
    #[arg(short = 'V', long)]
    pub version: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 a check failed, 2 usage, 3 bad model, 4 bad input data, 5 unsupported or no \
gradient, 6 limit, 7 NaN, 8 cannot write, 70 internal error, 130 Ctrl-C, 143 SIGTERM. \
gradc explain-error CODE explains the code of an error";

/// How the command speaks.
#[derive(Args, Debug, Clone, Copy)]
pub struct Talk {
    /// Print the result as one JSON object, such as `gradc inspect m.onnx --json | jq .inputs`
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Colours: always, never, or only on a terminal
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        hide_possible_values = true,
        value_name = "auto|always|never",
        help_heading = "Output"
    )]
    pub color: Color,
    /// Write warnings, notes and errors as text, or as one JSON object a line, such as --log-format json
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        hide_possible_values = true,
        value_name = "text|json",
        help_heading = "Output"
    )]
    pub log_format: LogFormat,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
}

/// The form of what is said on standard error.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// When colours are used.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// What is to be done.
#[derive(Subcommand, Debug)]
pub enum Command {
    Inspect(commands::inspect::Inspect),
    Ops(commands::ops::Ops),
    Compile(commands::compile::CompileCommand),
    Run(commands::run::Run),
    Grad(commands::grad::Grad),
    Check(commands::check::Check),
    Bench(commands::bench::Bench),
    Demo(commands::demo::Demo),
    Completions(commands::completions::Completions),
    Man(commands::man::Man),
    ExplainError(commands::explain_error::ExplainError),
}

/// The model and how it is read.
#[derive(Args, Debug, Clone)]
pub struct ModelArguments {
    /// The ONNX file
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Follow symbolic links to files of weights (in folders that you trust)
    #[arg(long, help_heading = "Safety")]
    pub allow_symlinks: bool,
    /// Refuse models with more nodes
    #[arg(long, value_name = "N", default_value_t = 1_000_000, help_heading = "Safety")]
    pub max_nodes: usize,
}

/// The lengths that the file leaves open.
#[derive(Args, Debug, Clone, Default)]
pub struct ShapeArguments {
    /// Give a named dimension its length, such as --dim N=1
    #[arg(long, value_name = "NAME=LENGTH", help_heading = "Input")]
    pub dim: Vec<String>,
    /// Give an input its shape, such as --shape x=1x3x224x224; elements of sequences as --shape 'x[0]=2x3'
    #[arg(long, value_name = "NAME=AxBxC", help_heading = "Input")]
    pub shape: Vec<String>,
}

/// The values of inputs.
#[derive(Args, Debug, Clone, Default)]
pub struct InputArguments {
    /// Give an input its value: NAME=@x.npy, NAME=@a.npz:key, NAME=1,2,3, NAME=zeros|ones|random[:seed], or @all.npz
    /// with arrays under the names of the inputs. Elements of sequences are 'NAME[0]', 'NAME[1]', ...; NAME=[] has none
    #[arg(short, long, value_name = "NAME=VALUE", help_heading = "Input")]
    pub input: Vec<String>,
    /// Take the inputs from input_0.pb, input_1.pb, ... of this folder
    #[arg(long, value_name = "DIR", help_heading = "Input")]
    pub test_data: Option<PathBuf>,
    /// Convert arrays of another element type (checks ranges, reports the largest rounding error)
    #[arg(long, help_heading = "Input")]
    pub cast: bool,
    #[command(flatten)]
    pub pictures: PictureArguments,
}

/// How pictures become inputs.
#[derive(Args, Debug, Clone, Default)]
pub struct PictureArguments {
    /// The order of the axes in files of pictures, where it is not the model's, such as --layout hwc for an .npy file
    #[arg(
        long,
        value_enum,
        value_name = "hwc|chw|nhwc|nchw",
        hide_possible_values = true,
        help_heading = "Input"
    )]
    pub layout: Option<Layout>,
    /// Subtract this from each channel of PNG and JPEG pictures, whose values are 0 to 1, such as
    /// --mean 0.485,0.456,0.406
    #[arg(
        long,
        value_name = "R,G,B",
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Input"
    )]
    pub mean: Vec<f64>,
    /// Divide each channel of PNG and JPEG pictures by this, such as --std 0.229,0.224,0.225
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', help_heading = "Input")]
    pub std: Vec<f64>,
    /// Scale PNG and JPEG pictures to the size that the model wants
    #[arg(long, help_heading = "Input")]
    pub resize: bool,
}

/// Orders of the axes of pictures.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Hwc,
    Chw,
    Nhwc,
    Nchw,
}

/// What is done about NaN and infinity in results.
#[derive(Args, Debug, Clone, Default)]
pub struct NanArguments {
    /// Look for NaN and infinity in the results, and for the node where they began: warn goes on, error ends with exit
    /// code 7, such as --nan-check error [default: off]
    #[arg(
        long,
        value_enum,
        value_name = "off|warn|error",
        hide_possible_values = true,
        help_heading = "Numerics"
    )]
    pub nan_check: Option<NanCheck>,
    /// Write the numbers that met at that node to this file, such as --trace-nan nan.npz
    #[arg(long, value_name = "FILE", help_heading = "Numerics")]
    pub trace_nan: Option<PathBuf>,
}

impl NanArguments {
    /// What is to be done: tracing without a word is checking.
    pub fn effective(&self) -> NanCheck {
        let tracing = if self.trace_nan.is_some() { NanCheck::Error } else { NanCheck::Off };
        self.nan_check.unwrap_or(tracing)
    }
}

/// What follows from NaN or infinity.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanCheck {
    Off,
    Warn,
    Error,
}

/// How the model is compiled.
#[derive(Args, Debug, Clone)]
pub struct BuildArguments {
    /// Compute in this type: all floats of the model take it, such as --dtype f64
    #[arg(long, value_enum, value_name = "f32|f64", hide_possible_values = true, help_heading = "Numerics")]
    pub dtype: Option<Float>,
    /// Use this many threads, such as --threads 4
    #[arg(long, value_name = "N", help_heading = "Resources")]
    pub threads: Option<usize>,
    /// Compute results again rather than keep them where a run needs more memory; refuse what still does; such as --max-memory 2GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Resources")]
    pub max_memory: Option<u64>,
    /// Stop after this time, such as --timeout 60s or --timeout 500ms
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Resources")]
    pub timeout: Option<Duration>,
    /// Use no more of the processor than this: native all, avx2 no AVX-512, baseline what every machine has (slow, and the
    /// same results on all of them), such as --cpu avx2 [default: native]
    #[arg(
        long,
        value_enum,
        value_name = "native|avx2|baseline",
        hide_possible_values = true,
        help_heading = "Compile"
    )]
    pub cpu: Option<Cpu>,
    /// How much is optimized: 0 nothing, 2 as a rule, 3 everything, such as -O0
    #[arg(short = 'O', value_name = "0..3", value_parser = clap::value_parser!(u8).range(0..=3), default_value_t = 2, help_heading = "Compile")]
    pub optimize: u8,
    /// Leave passes out, such as --no-pass fuse
    #[arg(long, value_name = "PASS,...", value_delimiter = ',', help_heading = "Compile")]
    pub no_pass: Vec<String>,
    /// Run only the first N passes, to find one at fault, such as --passes-up-to 3
    #[arg(long, value_name = "N", help_heading = "Compile")]
    pub passes_up_to: Option<usize>,
    /// Interpret instead of compiling: slow, and the same but for rounding
    #[arg(long, help_heading = "Compile")]
    pub interpreter: bool,
    /// Keep what is compiled in this folder of yours and take it from there the next time, such as --cache ~/.cache/gradc
    /// [default: what GRADC_CACHE says, else none]
    #[arg(long, value_name = "DIR", help_heading = "Compile")]
    pub cache: Option<PathBuf>,
}

impl Default for BuildArguments {
    fn default() -> BuildArguments {
        BuildArguments {
            dtype: None,
            threads: None,
            max_memory: None,
            timeout: None,
            cpu: None,
            passes_up_to: None,
            optimize: 2,
            no_pass: Vec::new(),
            interpreter: false,
            cache: None,
        }
    }
}

/// What may be used of the processor.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    Native,
    Avx2,
    Baseline,
}

impl Cpu {
    /// Limits what this process uses.
    pub fn limit(self) -> gradc::Result<()> {
        match self {
            Cpu::Native => gradc::Cpu::Native,
            Cpu::Avx2 => gradc::Cpu::Avx2,
            Cpu::Baseline => gradc::Cpu::Baseline,
        }
        .limit()
    }
}

/// The float types to compute in.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    F32,
    F64,
}

impl Float {
    /// The element type.
    pub fn dtype(self) -> gradc_ir::DType {
        match self {
            Float::F32 => gradc_ir::DType::F32,
            Float::F64 => gradc_ir::DType::F64,
        }
    }
}

/// The number that is differentiated, and by what.
#[derive(Args, Debug, Clone, Default)]
pub struct GoalArguments {
    /// Differentiate this number: OUT, OUT[0,281], OUT:argmax, OUT:label=281, OUT:sum, OUT:mean or OUT:norm
    #[arg(short, long, value_name = "TARGET", help_heading = "Gradient")]
    pub target: Vec<String>,
    /// Weight an output with an array of its shape and add up, such as --seed-grad logits=@v.npy
    #[arg(long, value_name = "OUT=VALUE", help_heading = "Gradient")]
    pub seed_grad: Vec<String>,
    /// Differentiate a loss: ce, bce-logits, mse, l1, huber or kl
    #[arg(long, value_name = "LOSS", help_heading = "Gradient")]
    pub loss: Option<String>,
    /// The label of every row, for --loss ce
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "labels",
        requires = "loss",
        allow_negative_numbers = true,
        help_heading = "Gradient"
    )]
    pub label: Option<i64>,
    /// What the output should be, for --loss: @labels.npy, or numbers such as 3,1,4
    #[arg(long, value_name = "VALUE", requires = "loss", help_heading = "Gradient")]
    pub labels: Option<String>,
    /// Add this to every label, such as --label-offset -1 for labels that count from 1
    #[arg(
        long,
        value_name = "N",
        requires = "loss",
        allow_negative_numbers = true,
        help_heading = "Gradient"
    )]
    pub label_offset: Option<i64>,
    /// Leave rows with this label out of --loss ce, such as --ignore-index -100 (it is compared before the offset)
    #[arg(
        long,
        value_name = "N",
        requires = "loss",
        allow_negative_numbers = true,
        help_heading = "Gradient"
    )]
    pub ignore_index: Option<i64>,
    /// The output that --loss compares (the only one by default)
    #[arg(long, value_name = "OUT", requires = "loss", help_heading = "Gradient")]
    pub output_name: Option<String>,
    /// Differentiate with respect to these tensors: names, patterns such as '*.weight', inputs, params, all; may be
    /// repeated [default: inputs]
    #[arg(short, long, value_name = "NAME,...", help_heading = "Gradient")]
    pub wrt: Vec<String>,
    /// Differentiate nodes that round as if they did not: operators such as QuantizeLinear, Round or Cast, or names of
    /// nodes. Values do not change
    #[arg(long, value_name = "OP,...", value_delimiter = ',', help_heading = "Gradient")]
    pub straight_through: Vec<String>,
}

/// Derivatives that are more than one gradient.
#[derive(Args, Debug, Clone, Default)]
pub struct DerivativeArguments {
    /// Differentiate every element of this tensor, in place of a target: the arrays are Jacobians, of its shape followed by
    /// that of what it is differentiated by
    #[arg(
        long,
        value_name = "OUT",
        conflicts_with_all = ["target", "seed_grad", "loss", "hvp"],
        help_heading = "Gradient"
    )]
    pub jacobian: Option<String>,
    /// Compute the product of the target's Hessian with this direction too, such as --hvp x=@v.npy; tensors that are
    /// not given one do not move. May be repeated
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Gradient")]
    pub hvp: Vec<String>,
}

/// Where results go.
#[derive(Args, Debug, Clone, Default)]
pub struct SaveArguments {
    /// Write the arrays to this file: .npz, .safetensors, or .npy for one array
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Keep a file that exists
    #[arg(long, help_heading = "Output")]
    pub no_clobber: bool,
}

/// Reads a size such as `2GiB`, `500MB` or `1048576`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: f64 = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "kb" => 1e3,
        "m" | "mib" => 1024f64.powi(2),
        "mb" => 1e6,
        "g" | "gib" => 1024f64.powi(3),
        "gb" => 1e9,
        "t" | "tib" => 1024f64.powi(4),
        _ => return Err("sizes look like 2GiB, 500MB or 1048576".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "sizes look like 2GiB, 500MB or 1048576".to_owned())?;
    Ok((number * factor) as u64)
}

/// Reads a time such as `60s`, `500ms`, `2m` or `60`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("times look like 60s, 500ms or 2m".to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "times look like 60s, 500ms or 2m".to_owned())? * factor;
    Duration::try_from_secs_f64(seconds).map_err(|_| "times look like 60s, 500ms or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("1.5 kB"), Ok(1500));
        assert_eq!(parse_bytes("7"), Ok(7));
        assert!(parse_bytes("GiB").is_err());
        assert!(parse_bytes("3 apples").is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_time("1.5"), Ok(Duration::from_millis(1500)));
        assert!(parse_time("s").is_err() && parse_time("3 apples").is_err());
    }
}
