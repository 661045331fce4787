//! Machine code that has no address yet: functions, data, and what refers to what.

use crate::CodegenError;
use crate::emit::{self, IsaOptions};
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::{LibCall, Signature};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{
    DataDescription, FuncId, Linkage, Module, ModuleReloc, ModuleRelocTarget, default_libcall_names,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;

/// The relocations that a JIT module applies, with how many bytes each of them changes. Their positions are what is
/// stored.
const KINDS: [(Reloc, usize); 10] = [
    (Reloc::Abs4, 4),
    (Reloc::Abs8, 8),
    (Reloc::X86PCRel4, 4),
    (Reloc::X86CallPCRel4, 4),
    (Reloc::S390xPCRel32Dbl, 4),
    (Reloc::S390xPLTRel32Dbl, 4),
    (Reloc::Arm64Call, 4),
    (Reloc::Aarch64AdrPrelPgHi21, 4),
    (Reloc::Aarch64AddAbsLo12Nc, 4),
    (Reloc::RiscvCallPlt, 8),
];

/// Functions and data, by number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Code {
    pub functions: Vec<Declaration>,
    /// What was defined, in that order.
    pub definitions: Vec<Definition>,
    /// Read-only data, aligned to words: where each lies among the bytes.
    pub data: Vec<Range<usize>>,
    /// The function to call.
    pub entry: u32,
}

/// A function's symbol.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Declaration {
    pub symbol: String,
    /// Whether it is one of the run-time library.
    pub imported: bool,
}

/// The code of a function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub function: u32,
    pub alignment: u64,
    /// Where it lies among the bytes.
    pub bytes: Range<usize>,
    pub relocations: Vec<Relocation>,
}

/// A place in a function that takes an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Relocation {
    offset: u32,
    /// A position in [`KINDS`].
    kind: u8,
    target: Target,
    addend: i64,
}

/// What a function refers to.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Target {
    Function(u32),
    Data(u32),
    /// A function of the C library, by the code generator's name.
    Library(String),
    /// A place in a function.
    Within(u32, u32),
}

/// The kinds of names in relocations: see [`ModuleRelocTarget::User`].
const FUNCTION: u32 = 0;
/// As above.
const DATA: u32 = 1;

impl Relocation {
    /// What the code generator says, if a JIT module could apply it.
    pub fn new(relocation: &ModuleReloc) -> Option<Relocation> {
        let kind = KINDS.iter().position(|(kind, _)| *kind == relocation.kind)?;
        let target = match relocation.name {
            ModuleRelocTarget::User { namespace: FUNCTION, index } => Target::Function(index),
            ModuleRelocTarget::User { namespace: DATA, index } => Target::Data(index),
            ModuleRelocTarget::LibCall(call) => Target::Library(call.to_string()),
            ModuleRelocTarget::FunctionOffset(function, offset) => Target::Within(function.as_u32(), offset),
            ModuleRelocTarget::User { .. } | ModuleRelocTarget::KnownSymbol(_) => return None,
        };
        let (offset, addend) = (relocation.offset, relocation.addend);
        Some(Relocation { offset, kind: u8::try_from(kind).ok()?, target, addend })
    }

    /// The reverse, if it lies in a function of so many bytes and refers to something that there is.
    fn applied(&self, code: &Code, bytes: usize) -> Option<ModuleReloc> {
        let (kind, width) = *KINDS.get(usize::from(self.kind))?;
        let fits = (self.offset as usize).checked_add(width)? <= bytes;
        let known = |function: u32| (function as usize) < code.functions.len();
        let name = match &self.target {
            Target::Function(index) if known(*index) => ModuleRelocTarget::user(FUNCTION, *index),
            Target::Data(index) if (*index as usize) < code.data.len() => {
                ModuleRelocTarget::user(DATA, *index)
            }
            Target::Library(name) => ModuleRelocTarget::LibCall(name.parse::<LibCall>().ok()?),
            Target::Within(function, offset) if known(*function) => {
                ModuleRelocTarget::FunctionOffset(FuncId::from_u32(*function), *offset)
            }
            Target::Function(_) | Target::Data(_) | Target::Within(..) => return None,
        };
        fits.then_some(ModuleReloc { offset: self.offset, kind, name, addend: self.addend })
    }
}

impl Code {
    /// Whether all that is referred to is there: what was stored may be anything.
    pub fn is_whole(&self, bytes: &[u8]) -> bool {
        let known: BTreeSet<&str> = gradc_runtime::symbols().iter().map(|(symbol, _)| *symbol).collect();
        let inside = |range: &Range<usize>| bytes.get(range.clone()).is_some();
        let mut missing: Vec<bool> = self.functions.iter().map(|function| !function.imported).collect();
        let defined = self.definitions.iter().all(|definition| {
            let first = missing.get_mut(definition.function as usize).is_some_and(std::mem::take);
            let length = definition.bytes.len();
            first
                && length > 0
                && inside(&definition.bytes)
                && definition.alignment.is_power_of_two()
                && definition.alignment <= 4096
                && definition.relocations.iter().all(|relocation| relocation.applied(self, length).is_some())
        });
        let imports = self.functions.iter().filter(|function| function.imported);
        let symbols: BTreeSet<&str> = self.functions.iter().map(|function| &*function.symbol).collect();
        defined
            && !missing.contains(&true)
            && symbols.len() == self.functions.len()
            && imports.clone().all(|function| known.contains(&*function.symbol))
            && self.data.iter().all(inside)
            && self.functions.get(self.entry as usize).is_some_and(|entry| !entry.imported)
    }

    /// A finished module of this code, and its entry function. The code is whole.
    pub fn load(&self, bytes: &[u8]) -> Result<(JITModule, FuncId), CodegenError> {
        let isa = emit::host_isa(IsaOptions::jit())?;
        // Who calls whom was settled when the code was made.
        let signature = Signature::new(isa.default_call_conv());
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        emit::register_runtime(&mut builder);
        let mut module = JITModule::new(builder);
        for Declaration { symbol, imported } in &self.functions {
            let linkage = if *imported { Linkage::Import } else { Linkage::Local };
            module.declare_function(symbol, linkage, &signature)?;
        }
        for range in &self.data {
            let data = module.declare_anonymous_data(false, false)?;
            let mut description = DataDescription::new();
            description.set_align(8);
            description.define(bytes[range.clone()].into());
            module.define_data(data, &description)?;
        }
        for definition in &self.definitions {
            let bytes = &bytes[definition.bytes.clone()];
            let applied = |relocation: &Relocation| relocation.applied(self, bytes.len());
            let relocations: Vec<ModuleReloc> = definition.relocations.iter().filter_map(applied).collect();
            let function = FuncId::from_u32(definition.function);
            module.define_function_bytes(function, definition.alignment, bytes, &relocations)?;
        }
        module.finalize_definitions()?;
        Ok((module, FuncId::from_u32(self.entry)))
    }
}
