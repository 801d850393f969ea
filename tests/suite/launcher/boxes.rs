//! The boxes that are kept by sampling: memory and processes.

use std::time::Duration;

use dispatcher::executor::Ended;

use super::stage::{Stage, marked};

#[test]
fn a_memory_bomb_is_killed() {
    let stage = Stage::new();
    let mut plan =
        stage.script("(exec tail -c 400000000 /dev/zero) & (exec tail -c 400000000 /dev/zero) & wait; exit 3");
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

#[test]
fn a_fork_bomb_is_killed_for_sure() {
    let stage = Stage::new();
    // Every process forks two more into sessions of their own and ends: no parent stays, no group holds them.
    let bomb = "bomb() { [ -e $HOME/stop ] || { bomb & bomb & }; }; bomb; sleep 600";
    let mut plan = stage.script(bomb);
    (plan.limits.pids, plan.limits.timeout) = (Some(64), Duration::from_secs(20));
    let mark = format!("DISPATCH_ID={}", plan.id);
    let (outcome, _) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::TooManyProcesses);
    let problem = outcome.problem.unwrap();
    assert_eq!(problem.code, "E0604");
    assert!(problem.message.contains("more than `64`"), "{}", problem.message);
    assert_eq!(marked(&mark), [0; 0]);
}
