//! A module of Cranelift that keeps what is defined in it, as bytes, in place of giving it addresses.

use super::code::{Code, Declaration, Definition, Relocation};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Signature;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::{CodegenError, Context};
use cranelift_module::{
    DataDescription, DataId, FuncId, Init, Linkage, Module, ModuleDeclarations, ModuleError, ModuleReloc,
    ModuleResult,
};

/// What was defined so far.
pub(super) struct Recorder {
    isa: OwnedTargetIsa,
    declarations: ModuleDeclarations,
    code: Code,
    bytes: Vec<u8>,
}

impl Recorder {
    /// Nothing, for this machine.
    pub fn new(isa: OwnedTargetIsa) -> Recorder {
        let declarations = ModuleDeclarations::default();
        Recorder { isa, declarations, code: Code::default(), bytes: Vec::new() }
    }

    /// All of it, with the function to call, and the bytes of functions and data.
    pub fn finish(mut self, entry: FuncId) -> (Code, Vec<u8>) {
        let declared = self.declarations.get_functions().map(|(id, declaration)| Declaration {
            symbol: declaration.linkage_name(id).into_owned(),
            imported: declaration.linkage == Linkage::Import,
        });
        self.code.functions = declared.collect();
        self.code.entry = entry.as_u32();
        (self.code, self.bytes)
    }

    fn keep(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

fn unsupported(what: &str) -> ModuleError {
    ModuleError::Compilation(CodegenError::Unsupported(what.to_owned()))
}

impl Module for Recorder {
    fn isa(&self) -> &dyn TargetIsa {
        &*self.isa
    }

    fn declarations(&self) -> &ModuleDeclarations {
        &self.declarations
    }

    fn declare_function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: &Signature,
    ) -> ModuleResult<FuncId> {
        self.declarations.declare_function(name, linkage, signature).map(|(id, _)| id)
    }

    fn declare_anonymous_function(&mut self, signature: &Signature) -> ModuleResult<FuncId> {
        self.declarations.declare_anonymous_function(signature)
    }

    fn declare_data(
        &mut self,
        name: &str,
        linkage: Linkage,
        writable: bool,
        tls: bool,
    ) -> ModuleResult<DataId> {
        self.declarations.declare_data(name, linkage, writable, tls).map(|(id, _)| id)
    }

    fn declare_anonymous_data(&mut self, writable: bool, tls: bool) -> ModuleResult<DataId> {
        self.declarations.declare_anonymous_data(writable, tls)
    }

    fn define_function_with_control_plane(
        &mut self,
        function: FuncId,
        context: &mut Context,
        control: &mut ControlPlane,
    ) -> ModuleResult<()> {
        context.compile(&*self.isa, control)?;
        let Some(code) = context.compiled_code() else { unreachable!("it was compiled without an error") };
        let relocation = |relocation| ModuleReloc::from_mach_reloc(relocation, &context.func, function);
        let relocations: Vec<ModuleReloc> = code.buffer.relocs().iter().map(relocation).collect();
        let alignment = u64::from(code.buffer.alignment);
        self.define_function_bytes(function, alignment, code.code_buffer(), &relocations)
    }

    fn define_function_bytes(
        &mut self,
        function: FuncId,
        alignment: u64,
        bytes: &[u8],
        relocations: &[ModuleReloc],
    ) -> ModuleResult<()> {
        let relocations: Option<Vec<Relocation>> = relocations.iter().map(Relocation::new).collect();
        let relocations = relocations.ok_or_else(|| unsupported("a relocation that cannot be kept"))?;
        let bytes = self.keep(bytes);
        let function = function.as_u32();
        self.code.definitions.push(Definition { function, alignment, bytes, relocations });
        Ok(())
    }

    fn define_data(&mut self, data: DataId, description: &DataDescription) -> ModuleResult<()> {
        let plain = description.function_relocs.is_empty() && description.data_relocs.is_empty();
        match &description.init {
            // Data is anonymous and defined as soon as it is declared, so its number is its position.
            Init::Bytes { contents } if plain && data.as_u32() as usize == self.code.data.len() => {
                let range = self.keep(contents);
                self.code.data.push(range);
                Ok(())
            }
            Init::Bytes { .. } | Init::Zeros { .. } | Init::Uninitialized => {
                Err(unsupported("data other than plain words"))
            }
        }
    }
}
