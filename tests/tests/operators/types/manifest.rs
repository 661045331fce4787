//! What held once must hold; what does not is on a list of its own, which may only get shorter.

use super::Claim;
use super::check::Held;
use gradc_tests::scoreboard::folder;
use std::collections::{BTreeMap, BTreeSet};

/// What holds: a line for each variable, a `+` behind each type whose gradient holds too.
const HELD: &str = "operator_types.txt";
/// What does not hold, and is not claimed: a line for each type, with the reason.
const OPEN: &str = "operator_types_open.txt";

pub fn shown((name, variable, ty): &Claim) -> String {
    format!("{name} {variable}={ty}")
}

/// What is lost, or gained and not listed. Blessing writes what is gained, where nothing is lost.
pub fn faults(held: &BTreeMap<Claim, Held>, open: &BTreeMap<Claim, String>) -> Vec<String> {
    let now: BTreeSet<String> = held.iter().flat_map(|(claim, held)| words(claim, *held)).collect();
    let text = std::fs::read_to_string(folder().join(HELD)).unwrap_or_default();
    let listed: BTreeSet<String> = text.lines().flat_map(read).collect();
    let known = std::fs::read_to_string(folder().join(OPEN));
    let excused: BTreeMap<&str, &str> =
        known.as_deref().unwrap_or_default().lines().filter_map(|line| line.split_once(": ")).collect();
    let mut faults: Vec<String> =
        listed.difference(&now).map(|claim| format!("{claim} held once and does not now")).collect();
    let is_new = known.is_err();
    let fresh = |claim: &Claim| !is_new && !excused.contains_key(shown(claim).as_str());
    let fresh = open.iter().filter(|(claim, _)| fresh(claim));
    faults.extend(fresh.map(|(claim, why)| format!("{} does not hold: {why}", shown(claim))));
    let still: BTreeSet<String> = open.keys().map(shown).collect();
    if std::env::var_os("GRADC_BLESS").is_some() {
        if !faults.is_empty() {
            return faults;
        }
        std::fs::write(folder().join(HELD), lines(held)).expect("the manifest can be written");
        let reason = |why: &String| why.split(" [").next().unwrap_or_default().replace('\n', " ");
        let kept = open.iter().filter(|(claim, _)| is_new || excused.contains_key(shown(claim).as_str()));
        let text: String = kept.map(|(claim, why)| format!("{}: {}\n", shown(claim), reason(why))).collect();
        std::fs::write(folder().join(OPEN), text).expect("the list can be written");
        return faults;
    }
    faults.extend(now.difference(&listed).map(|claim| format!("{claim} holds: bless the manifest")));
    let mended = excused.keys().filter(|claim| !still.contains(**claim));
    faults.extend(mended.map(|claim| format!("{claim} holds now: bless the manifest")));
    faults
}

fn words(claim: &Claim, held: Held) -> Vec<String> {
    let forward = shown(claim);
    match held {
        Held::Forward => vec![forward],
        Held::Gradient => vec![format!("{forward}+"), forward],
    }
}

fn lines(held: &BTreeMap<Claim, Held>) -> String {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((name, variable, ty), held) in held {
        let mark = if *held == Held::Gradient { "+" } else { "" };
        lines.entry(format!("{name} {variable}")).or_default().push(format!("{ty}{mark}"));
    }
    lines.into_iter().map(|(name, types)| format!("{name}: {}\n", types.join(" "))).collect()
}

fn read(line: &str) -> Vec<String> {
    let Some((name, types)) = line.split_once(": ") else { return Vec::new() };
    let words = |ty: &str| {
        let forward = format!("{name}={}", ty.trim_end_matches('+'));
        let gradient = ty.ends_with('+').then(|| format!("{forward}+"));
        std::iter::once(forward).chain(gradient).collect::<Vec<_>>()
    };
    types.split(' ').flat_map(words).collect()
}
