//! What programs that were linked with an object file need beside the functions that the JIT calls.

use crate::frame::Frame;
use gradc_kernels::{Team, Tier};
use std::ptr::null_mut;
use std::sync::{LazyLock, Mutex, PoisonError};

/// What [`gradc_rt_enter`] answers if a run must not begin: the processor lacks instructions that the model was
/// compiled for, or another model of this process was compiled for other ones; the team is larger than the model was
/// compiled for.
pub const ENTER_STATUSES: [i64; 2] = [-1, -2];

/// A team of one for callers that bring none.
static ALONE: LazyLock<Team> = LazyLock::new(|| Team::new(1));

/// The tier of the models of this process. The memory that kernels pack into depends on it.
static CHOSEN: Mutex<Option<Tier>> = Mutex::new(None);

/// Begins a run: fills the frame's team (one thread, if `team` is null) and checks what the size of the arena rests
/// on. Answers 0 or one of [`ENTER_STATUSES`].
///
/// # Safety
/// `frame` is valid for writing; `team` is null or alive until the run ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradc_rt_enter(
    frame: *mut Frame,
    team: *const Team,
    tier: i64,
    threads: i64,
) -> i64 {
    // SAFETY: the caller's promise.
    let team = unsafe { team.as_ref() }.unwrap_or_else(|| &*ALONE);
    if !is_tier(tier) {
        return ENTER_STATUSES[0];
    }
    if team.threads() as i64 > threads {
        return ENTER_STATUSES[1];
    }
    // SAFETY: the caller's promise.
    unsafe {
        (*frame).team = team;
        (*frame).step = 0;
        (*frame).ticks = null_mut();
    }
    0
}

/// Whether kernels use this tier, which the first caller chooses if the processor has it.
fn is_tier(number: i64) -> bool {
    let wanted = [Tier::Portable, Tier::Avx2, Tier::Avx512].into_iter().find(|tier| *tier as i64 == number);
    let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
    if chosen.is_none() && wanted.is_some_and(|tier| Tier::limit(tier) == tier) {
        *chosen = wanted;
    }
    wanted.is_some() && *chosen == wanted
}

/// Starts a team of threads, the caller of a run being one of them, for any number of runs, one at a time.
#[unsafe(no_mangle)]
pub extern "C" fn gradc_team_new(threads: usize) -> *mut Team {
    Box::into_raw(Box::new(Team::new(threads)))
}

/// Ends a team's threads.
///
/// # Safety
/// `team` is null, or came from [`gradc_team_new`] and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradc_team_free(team: *mut Team) {
    if !team.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(team) });
    }
}
