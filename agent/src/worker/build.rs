//! What decides the bytes of a version beside its job: the program, and what of the processor it uses.

use shoal_proto::decision::MadeBy;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// The beginning of a program that its notes are looked for in: linkers put them before everything else.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// What GNU linkers sign a program with: name size 4, any size, type 3, `GNU`.
const NOTE: (&[u8], &[u8]) = (&4_u32.to_le_bytes(), b"\x03\x00\x00\x00GNU\x00");
/// Bytes of such a signature at most.
const MAX_ID_BYTES: usize = 32;

/// This very process.
pub(super) fn made_by(memory_bytes: u64, cpu_ms: u64) -> MadeBy {
    let optimised = if cfg!(debug_assertions) { "debug" } else { "release" };
    MadeBy {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        target: format!("{}-{}-{optimised}", std::env::consts::ARCH, std::env::consts::OS),
        build: File::open("/proc/self/exe").ok().and_then(|program| build_id(&program)).unwrap_or_default(),
        cpu: cpu(),
        memory_bytes,
        cpu_ms,
    }
}

fn build_id(program: &File) -> Option<String> {
    let mut head = vec![0; MAX_HEAD_BYTES];
    let read = program.read_at(&mut head, 0).ok()?;
    let head = head.get(..read)?;
    let found = head.windows(16).position(|note| note.starts_with(NOTE.0) && note[8..] == *NOTE.1)?;
    let size = u32::from_le_bytes(head.get(found + 4..found + 8)?.try_into().ok()?);
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_ID_BYTES)?;
    let id = head.get(found + 16..found + 16 + size)?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(target_arch = "x86_64")]
fn cpu() -> Vec<String> {
    let all = [
        ("avx", std::is_x86_feature_detected!("avx")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu() -> Vec<String> {
    let all = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_named() {
        let by = made_by(7, 9);
        assert_eq!((by.memory_bytes, by.cpu_ms, by.agent.as_str()), (7, 9, env!("CARGO_PKG_VERSION")));
        assert!(by.target.starts_with(std::env::consts::ARCH) && by.build.len().is_multiple_of(2), "{by:?}");
        assert_eq!(by, made_by(7, 9));
    }
}
