//! Cases written for other systems, and their answers.

use super::function::Function;
use super::{Case, Gradient};
use gradc::Literal;
use gradc::formats::output::{Existing, write_atomically};
use gradc::formats::{Limits, npz};
use std::path::PathBuf;

/// Where cases are written to, and where answers are read from.
#[derive(Clone, Default, Debug)]
pub struct Exchange {
    /// Each case is written here as `<name>.npz`.
    pub cases: Option<PathBuf>,
    /// The answers of another system stand here as `<name>.npz`; they are judged in place of gradc's gradients.
    pub answers: Option<PathBuf>,
}

impl Exchange {
    /// Whether the gradients of another system are judged.
    pub fn has_answers(&self) -> bool {
        self.answers.is_some()
    }

    /// Writes the inputs, cotangents and (where there are some) gradients of a case.
    pub fn write_case(
        &self,
        case: &Case,
        function: &Function,
        gradients: Option<&[Gradient]>,
    ) -> Result<(), String> {
        let Some(folder) = &self.cases else { return Ok(()) };
        let mut arrays: Vec<(String, Literal)> = Vec::new();
        for (name, value) in &case.inputs {
            arrays.push((format!("input:{name}"), value.clone()));
        }
        for (name, cotangent) in function.named_cotangents() {
            arrays.push((format!("cotangent:{name}"), cotangent));
        }
        for gradient in gradients.unwrap_or_default() {
            let value = Literal::new(gradient.shape.as_slice(), &gradient.elements);
            arrays.push((format!("gradient:{}", gradient.name), value));
        }
        let path = folder.join(format!("{}.npz", case.name));
        write_atomically(path, Existing::Replace, |file| npz::write(file, &arrays).map(|_| ()))
            .map_err(|error| error.to_string())
    }

    /// The gradients that another system answers with; zeros for tensors that it leaves out.
    pub fn answers(&self, case: &Case, function: &mut Function) -> gradc::Result<Vec<Gradient>> {
        let folder = self.answers.clone().unwrap_or_default();
        let mut archive = npz::Npz::open(folder.join(format!("{}.npz", case.name)), &Limits::default())?;
        let known = archive.names();
        let mut answers = Vec::new();
        for tensor in &function.tensors {
            let name = format!("gradient:{}", tensor.name);
            let elements = match known.contains(&name) {
                true => archive.get(&name)?.to_f64(),
                false => vec![0.0; tensor.elements.len()],
            };
            if elements.len() != tensor.elements.len() {
                let (name, got) = (tensor.name.clone(), elements.len());
                let ty = gradc::TensorType::new(gradc::DType::F64, tensor.shape.as_slice());
                return Err(gradc::Error::BufferSize { name, ty: Box::new(ty), got });
            }
            answers.push(Gradient { elements, ..tensor.clone() });
        }
        Ok(answers)
    }
}
