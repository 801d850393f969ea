//! The boxes that are kept by sampling: memory and processes.

use std::time::Duration;

use dispatcher::executor::Ended;

use super::stage::{Stage, marked};

#[test]
fn a_memory_bomb_is_killed() {
    let stage = Stage::new();
    let mut plan = stage.script("(exec awk 'BEGIN { s = \"x\"; while (1) s = s s }') & wait; exit 3");
    plan.limits.memory = Some(64 << 20);
    let mark = format!("DISPATCH_ID={}", plan.id);
    let (outcome, _) = stage.run(plan);
    assert_eq!((outcome.ended, outcome.problem), (Ended::OutOfMemory, None));
    assert!(outcome.usage.max_rss_bytes > 32 << 20, "{}", outcome.usage.max_rss_bytes);
    assert_eq!(marked(&mark), [0; 0]);
}

#[test]
fn a_tree_within_its_boxes_is_left_alone() {
    let stage = Stage::new();
    let mut plan = stage.script("i=0; while [ $i -lt 20 ]; do sleep 0.5 & i=$((i+1)); done; wait; exit 3");
    (plan.limits.memory, plan.limits.pids) = (Some(64 << 20), Some(32));
    let (outcome, _) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::Exited(3));
}

fn check_bomb(text: &str) {
    let stage = Stage::new();
    // The limit is there for the machine: should this test fail, the bomb stays small. (dash calls it -p, bash -u.)
    let mut plan = stage.script(&format!("ulimit -p 4000 2>/dev/null || ulimit -u 4000\n{text}"));
    (plan.limits.pids, plan.limits.timeout) = (Some(64), Duration::from_secs(20));
    let mark = format!("DISPATCH_ID={}", plan.id);
    let (outcome, _) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::TooManyProcesses);
    let problem = outcome.problem.unwrap();
    assert_eq!(problem.code, "E0604");
    assert!(problem.message.contains("more than `64`"), "{}", problem.message);
    assert_eq!(marked(&mark), [0; 0]);
}

/// One after the other: they share the limit of their user.
#[test]
fn fork_bombs_are_killed_for_sure() {
    // Every process forks two more and ends: few live long enough to be hit by their number. Slow enough not to run into
    // the limit, where it would die out by itself.
    check_bomb("bomb() { sleep 0.05; bomb & bomb & }; bomb; sleep 600");
    let stage = Stage::new();
    if !stage.executor.launcher().isolated() {
        // An ordinary user's supervisor has no means that a bomb of that same user in ever new sessions has not.
        return;
    }
    let leader = "if [ -z \"$BOMB\" ]; then export BOMB=1; setsid $0 & sleep 600; fi; sleep 0.05; ";
    check_bomb(&format!("{leader} setsid $0 & setsid $0 & wait"));
    check_bomb(&format!("{leader} setsid $0 & setsid $0 &"));
}
