//! A node test as a gradient test.

use gradc::{Compile, DType, DataType, Declared, Literal, Model, Session};
use gradc_frontend_onnx::model::read_tensor_proto;
use gradc_ir::testing::Random;
use std::path::Path;

/// A model with its inputs.
pub struct Case {
    /// The name of the test's folder.
    pub name: String,
    /// The model.
    pub model: Model,
    /// The names and values of the inputs, in order.
    pub inputs: Vec<(String, Literal)>,
}

impl Case {
    /// Reads a test; `None` where no input or no output is a tensor of floats.
    pub fn load(folder: &Path) -> Result<Option<Case>, String> {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let model = Model::load(folder.join("model.onnx")).map_err(shown)?;
        if !model.inputs().iter().any(is_float) || !model.outputs().iter().any(is_float) {
            return Ok(None);
        }
        let mut inputs = Vec::new();
        for (position, input) in model.inputs().into_iter().enumerate() {
            let path = folder.join(format!("test_data_set_0/input_{position}.pb"));
            let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let tensor = read_tensor_proto(bytes).and_then(|tensor| tensor.to_held());
            let value = tensor.map_err(|error| format!("{}: {}: {error}", input.name, error.code()))?;
            inputs.push((input.name, value));
        }
        Ok(Some(Case { name, model, inputs }))
    }

    /// The names of the outputs that are tensors of floats.
    pub fn float_outputs(&self) -> Vec<String> {
        self.model.outputs().into_iter().filter(is_float).map(|output| output.name).collect()
    }

    /// How the model is compiled, its floats in this type, and shapes as those of the inputs.
    pub fn compile(&self, float: DType) -> Compile<'_> {
        let compile = Compile::new(&self.model).dtype(float).outputs(self.float_outputs());
        self.inputs.iter().fold(compile, |compile, (name, value)| compile.input_hint(name, value.clone()))
    }

    /// Gives a session all inputs of the model; those that were fixed when compiling are left out.
    pub fn set_inputs(&self, session: &mut Session) -> gradc::Result<()> {
        for (name, value) in &self.inputs {
            let input = session.model().inputs().iter().find(|input| input.name == *name);
            let Some(dtype) = input.map(|input| input.ty.dtype) else { continue };
            match dtype {
                DType::F64 => session.set(name, &value.to_f64())?,
                DType::F32 => {
                    let elements: Vec<f32> = value.to_f64().into_iter().map(|x| x as f32).collect();
                    session.set(name, &elements)?;
                }
                _ => session.set_literal(name, value)?,
            }
        }
        Ok(())
    }

    /// The cotangent of an output: numbers of both signs between 1/2 and 3/2, the same on every machine, and the same
    /// for an operator and its expanded form.
    pub fn cotangent(&self, position: usize, elements: usize) -> Vec<f64> {
        let name = super::base_name(&self.name);
        // FNV-1a.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = Random::new(seed.wrapping_add(position as u64));
        let mut element = || {
            let size = 0.5 + random.unit();
            if random.percent(50) { size } else { -size }
        };
        (0..elements).map(|_| element()).collect()
    }
}

/// An error with its code.
pub fn shown(error: gradc::Error) -> String {
    format!("{}: {error}", error.code())
}

fn is_float(value: &Declared) -> bool {
    let floats = [DataType::F32, DataType::F64, DataType::F16, DataType::BF16];
    value.other.is_none() && value.dtype.is_some_and(|dtype| floats.contains(&dtype))
}
