//! `gradc demo`: the main job on a model and pictures that the command carries.

use crate::commands::grad::Summary;
use crate::failure::Result;
use crate::terminal::Terminal;
use crate::words::{bytes, duration, grouped, json_number, significant, table};
use clap::Args;
use gradc::formats::output::{Existing, write_atomically};
use gradc::formats::{npz, png};
use gradc::{Compile, ExternalData, Model, Target, Wrt};
use gradc_ir::Literal;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const MODEL: &[u8] = include_bytes!("../../../models/digits.onnx");
/// The length of a picture's sides.
const SIDE: usize = 16;

macro_rules! pictures {
    ($($digit:literal)*) => { [$(include_bytes!(concat!("../../../models/digits/", $digit, ".png"))),*] };
}

/// A picture of each digit.
const PICTURES: [&[u8]; 10] = pictures!(0 1 2 3 4 5 6 7 8 9);

/// Try gradc on a small model and a picture that it carries: recognize a handwritten digit, and see which
/// pixels count
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  gradc demo
  gradc demo 8
  gradc demo 5 --folder /tmp

Pixels where light would raise the score of the recognized digit are red, where it would lower it blue.")]
pub struct Demo {
    /// The digit on the picture
    #[arg(value_name = "DIGIT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub digit: u8,
    /// Write digits-gradient.npz and digits-saliency.png into this folder [default: the current one]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub folder: Option<PathBuf>,
}

impl Demo {
    pub fn run(self, terminal: &Terminal) -> Result<ExitCode> {
        let file = format!("models/digits/{}.png", self.digit);
        let picture = png::parse(&file, PICTURES[usize::from(self.digit)])?;
        let pixels: Vec<f32> = picture.to_f64().iter().map(|&level| level as f32 / 255.0).collect();

        let model = Model::from_bytes(MODEL, ExternalData::None)?;
        let target = Target::argmax("logits");
        let compiled = Compile::new(&model).bind("N", 1).target(target).wrt(Wrt::inputs()).build()?;
        let mut session = compiled.session();
        session.set("image", &pixels)?;
        let started = Instant::now();
        session.run_grad()?;
        let run_time = started.elapsed();

        let probabilities = softmax(session.output::<f32>("logits")?.as_slice());
        let mut ranking: Vec<usize> = (0..probabilities.len()).collect();
        ranking.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let value = session.target_value().unwrap_or(f64::NAN);
        let gradient = session.grad_literal("image")?;
        let strengths = gradient.to_f64();
        let summary = Summary::new("d/", "image", &gradient);

        let folder = self.folder.unwrap_or_default();
        let arrays = folder.join("digits-gradient.npz");
        let named = [("image".to_owned(), gradient)];
        write_atomically(&arrays, Existing::Replace, |file| npz::write(file, &named).map(drop))?;
        let saliency = folder.join("digits-saliency.png");
        let shown = saliency.display().to_string();
        let mut encoded = Vec::new();
        png::write(&shown, &mut encoded, &drawing(&pixels, &strengths))?;
        write_atomically(&saliency, Existing::Replace, |file| file.write_all(&encoded))?;

        let parameters: usize = model.initializers().map(|initializer| initializer.elements).sum();
        let times = [compiled.plan().times.total, run_time];
        let files = [&arrays, &saliency];
        terminal.answer(
            || {
                json!({
                    "schema": "gradc.demo/1",
                    "picture": file,
                    "prediction": ranking[0],
                    "probabilities": probabilities.iter().map(|&p| json_number(p)).collect::<Vec<_>>(),
                    "target": format!("logits[0,{}]", ranking[0]),
                    "value": json_number(value),
                    "gradients": [summary.json()],
                    "compile_ms": times[0].as_secs_f64() * 1e3,
                    "run_ms": times[1].as_secs_f64() * 1e3,
                    "wrote": files.map(|path| path.display().to_string()),
                })
            },
            || {
                let mut text = format!(
                    "model    models/digits.onnx, {}, {} parameters (it is part of this command)\n",
                    bytes(MODEL.len() as u64),
                    grouped(parameters)
                );
                text += &format!("picture  {file}, not seen in training\n\n");
                text += &sketch(&pixels, &strengths);
                let best = ranking
                    .iter()
                    .take(3)
                    .map(|&digit| format!("{digit} with {} %", significant(probabilities[digit] * 100.0, 3)));
                text += &format!("\nit is    {}\n", best.collect::<Vec<_>>().join(" · "));
                text += &format!("target   logits[0,{}] = {}\n", ranking[0], significant(value, 6));
                text += &table(&[summary.row()]);
                for (path, what) in
                    files.iter().zip(["the gradient", "both pictures, the gradient in red and blue"])
                {
                    text += &format!("wrote    {}: {what}\n", path.display());
                }
                text += &format!("time     compile {} · run {}\n", duration(times[0]), duration(times[1]));
                text
            },
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

fn softmax(scores: &[f32]) -> Vec<f64> {
    let greatest = scores.iter().fold(f64::NEG_INFINITY, |best, &score| best.max(f64::from(score)));
    let powers: Vec<f64> = scores.iter().map(|&score| (f64::from(score) - greatest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

fn largest(strengths: &[f64]) -> f64 {
    strengths.iter().fold(f64::MIN_POSITIVE, |largest, strength| largest.max(strength.abs()))
}

/// The picture and, beside it, the gradient, in characters: `+` where light raises the score, `-` where it lowers
/// it.
fn sketch(pixels: &[f32], strengths: &[f64]) -> String {
    let largest = largest(strengths);
    let light = |level: f32| ["  ", "░░", "▒▒", "▓▓", "██"][((level * 4.99) as usize).min(4)];
    let sign = |strength: f64| match strength / largest {
        part if part > 0.6 => "##",
        part if part > 0.25 => "++",
        part if part < -0.6 => "==",
        part if part < -0.25 => "--",
        _ => "  ",
    };
    let mut text =
        format!("  {:<34}{}\n", "the picture", "its gradient: light raises (+ #) or lowers (- =) the score");
    for (pixels, strengths) in pixels.chunks(SIDE).zip(strengths.chunks(SIDE)) {
        let left: String = pixels.iter().map(|&level| light(level)).collect();
        let right: String = strengths.iter().map(|&strength| sign(strength)).collect();
        text += format!("  {left}  {right}").trim_end();
        text.push('\n');
    }
    text
}

/// The picture and, beside it, the gradient in red and blue, each pixel a square.
fn drawing(pixels: &[f32], strengths: &[f64]) -> Literal {
    const SQUARE: usize = 16;
    const GAP: usize = 16;
    let (height, width) = (SIDE * SQUARE, 2 * SIDE * SQUARE + GAP);
    let largest = largest(strengths);
    let level = |part: f64| (part.clamp(0.0, 1.0) * 255.0).round() as u8;
    let mut colours = Vec::with_capacity(height * width * 3);
    for y in 0..height {
        for x in 0..width {
            let row = y / SQUARE * SIDE;
            colours.extend(match x {
                x if x < SIDE * SQUARE => [level(f64::from(pixels[row + x / SQUARE])); 3],
                x if x < SIDE * SQUARE + GAP => [255; 3],
                x => {
                    let part = strengths[row + (x - SIDE * SQUARE - GAP) / SQUARE] / largest;
                    let rest = level(1.0 - part.abs());
                    if part > 0.0 { [255, rest, rest] } else { [rest, rest, 255] }
                }
            });
        }
    }
    Literal::new([height, width, 3], &colours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_what_the_model_takes() {
        for (digit, bytes) in PICTURES.iter().enumerate() {
            let picture = png::parse(&digit.to_string(), bytes).expect("a picture");
            assert_eq!(picture.shape()[..], [SIDE, SIDE]);
        }
    }

    #[test]
    fn probabilities_add_up() {
        let probabilities = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(probabilities, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn what_raises_the_score_is_red() {
        let mut strengths = [0.0; SIDE * SIDE];
        strengths[0] = 2.0;
        strengths[1] = -1.0;
        let drawn = drawing(&[0.0; SIDE * SIDE], &strengths);
        let colour = |x: usize| drawn.to_f64()[x * 3..x * 3 + 3].to_vec();
        assert_eq!(colour(0), [0.0; 3]);
        assert_eq!(colour(272), [255.0, 0.0, 0.0]);
        assert_eq!(colour(272 + 16), [128.0, 128.0, 255.0]);
        assert_eq!(colour(272 + 32), [255.0; 3]);
    }
}
