//! Commit, fetch and push.

use super::script::*;
use crate::engine::*;

#[test]
fn a_moved_remote_is_fetched_first() {
    check_remote(
        settings(),
        vec![
            (0, found('a', Prior::Final), "commit a"),
            (1, committed("a"), "announce a; push"),
            (2, Input::Pushed(PushReport::Moved), ""),
            (30, Input::Tick, "fetch"),
            (31, fetched(true), "push"),
            (32, pushed(), "pushed 1"),
        ],
    );
}

#[test]
fn a_branch_that_stays_busy_is_a_failure() {
    let busy = || Input::Pushed(PushReport::Busy { message: "File exists".into() });
    let mut script = vec![(0, found('a', Prior::Final), "commit a"), (1, committed("a"), "announce a; push")];
    for round in 0..5 {
        let at = 10_000 * (round + 1);
        script.extend([(at, busy(), ""), (at + 5_000, Input::Tick, "fetch"), (at + 5_001, fetched(true), "push")]);
    }
    let tried = [(60_000, busy(), ""), (70_000, Input::Tick, "fetch"), (70_001, fetched(true), "push")];
    script.extend(tried);
    script.push((70_002, busy(), "give up; degraded push"));
    let engine = check_remote(settings(), script);
    assert_eq!(engine.snapshot(at_ms(70_003)).troubles[0].detail, "File exists");
}

#[test]
fn a_push_gives_up_and_recovers() {
    let gave_up = || {
        check_remote(
            settings(),
            vec![
                (0, found('a', Prior::Final), "commit a"),
                (1, committed("a"), "announce a; push"),
                (2, push_failed(), ""),
                (1_002, Input::Tick, "fetch"),
                (1_003, fetched(true), "push"),
                (1_004, push_failed(), "give up; degraded push"),
                (600_000, Input::Tick, ""),
            ],
        )
    };
    let by_fetch = vec![
        (600_001, Input::FetchNow, "fetch; scan"),
        (600_002, fetched(true), "fetch"),
        (600_003, fetched(true), "push"),
        (600_004, pushed(), "recovered push; pushed 1"),
    ];
    let by_result = vec![
        (600_001, found('b', Prior::Final), "commit b"),
        (600_002, committed("b"), "announce b; fetch"),
        (600_003, fetched(true), "push"),
        (600_004, push_failed(), "give up"),
    ];
    let by_itself = vec![
        (600_001, Input::FetchNow, "fetch; scan"),
        (600_002, fetched(false), "recovered push; pushed 1"),
        (600_003, stop(), "exit 0"),
    ];
    for rest in [by_fetch, by_result, by_itself] {
        check_from(gave_up(), rest);
    }
}

#[test]
fn an_unclear_push_that_arrived_is_done() {
    let engine = check_remote(
        Settings { once: true, ..settings() },
        vec![
            (0, found('a', Prior::Final), "commit a"),
            (1, committed("a"), "announce a; push"),
            (2, Input::Scanned, ""),
            (3, push_failed(), ""),
            (1_003, Input::Tick, "fetch"),
            (1_004, fetched(false), "pushed 1; exit 0"),
        ],
    );
    assert_eq!(engine.snapshot(at_ms(1_004)).git.push, "ok");
}

#[test]
fn nothing_spins_while_git_is_slow() {
    let engine = check_remote(
        settings(),
        vec![
            (0, found('a', Prior::Final), "commit a"),
            (1, committed("a"), "announce a; push"),
            (2, Input::FetchNow, "fetch; scan"),
            (3, Input::Pushed(PushReport::Moved), ""),
            (5_000, Input::Tick, ""),
        ],
    );
    assert_eq!(wake_ms(&engine, 5_000), None, "the fetch under way comes first");
    let engine = check(settings(), vec![(0, took(order('a')), "start a1"), (1, Input::Drain { by: "ana".into() }, "")]);
    assert_eq!(wake_ms(&engine, 999_000_000), None, "only the run's end matters");
}

#[test]
fn a_commit_that_fails_is_tried_again() {
    let failed = || Input::Committed(CommitReport::Failed { ids: vec![id('a')], message: "disk full".into() });
    check(
        settings(),
        vec![
            (0, took(order('a')), "start a1"),
            (1, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (2, failed(), "degraded commit"),
            (3, Input::Arrived(vec!["b".into()]), ""),
            (2_002, Input::Tick, "commit a"),
            (2_003, failed(), ""),
            (6_003, Input::Tick, "commit a"),
            (6_004, committed("a"), "recovered commit; announce a; take b"),
        ],
    );
}

#[test]
fn trouble_holds_the_intake_until_it_is_over() {
    let blocked = FetchReport::Blocked { detail: "x".into(), help: Vec::new(), ahead: false };
    let second = FetchReport::Done {
        commit: "tip".into(),
        commits: 0,
        ahead: false,
        withdrawn: Vec::new(),
        second: Some("ops-2".into()),
    };
    check_remote(
        settings(),
        vec![
            (0, Input::Disk { short: Some("1 M".into()) }, "degraded disk"),
            (1, Input::Arrived(vec!["a".into()]), ""),
            (2, Input::Disk { short: None }, "recovered disk; take a"),
            (3, took(order('a')), "start a1"),
            (4, Input::FetchNow, "fetch; scan"),
            (5, Input::Fetched(blocked), "degraded checkout"),
            (6, Input::Arrived(vec!["b".into()]), ""),
            (7, Input::FetchNow, "fetch; scan"),
            (8, Input::Fetched(second), "recovered checkout; degraded second_dispatcher"),
            (9, Input::FetchNow, "fetch; scan"),
            (10, fetched(false), ""),
            (11, Input::Resume { by: "ana".into() }, "recovered second_dispatcher; take b"),
        ],
    );
}

#[test]
fn a_sync_that_failed_holds_work_until_a_person_resumes() {
    let engine = check(
        settings(),
        vec![
            (0, took(order('a')), "start a1"),
            (1, Input::Unsynced("fsync: EIO".into()), "degraded sync"),
            (2, Input::Disk { short: None }, ""),
            (3, Input::Arrived(vec!["x".into()]), ""),
            (4, took(order('b')), ""),
            // What ran is recorded: it is written anew.
            (5, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (6, Input::Unsynced("fsync: EIO".into()), ""),
            (
                6,
                Input::Committed(CommitReport::Failed { ids: vec![id('a')], message: "fsync: EIO".into() }),
                "degraded commit",
            ),
            (600_000, Input::Tick, ""),
        ],
    );
    assert!(wake_ms(&engine, 600_000).is_none_or(|ms| ms > 100_000), "only the next fetch is waited for");
    let resume = Input::Resume { by: "ana".into() };
    check_from(
        engine,
        vec![
            (600_001, resume, "recovered sync; start b1; commit a"),
            (600_002, committed("a"), "recovered commit; announce a; take x"),
        ],
    );
}

#[test]
fn trouble_is_told_with_its_beginning_and_the_way_out() {
    let locked = |detail: &str| Input::Index { locked: Some((detail.into(), vec!["rm it".into()])) };
    let engine = check_remote(
        settings(),
        vec![
            (5, locked("held"), "degraded index"),
            (6, locked("held"), ""),
            (7, locked("left"), "degraded index"),
            (8, Input::Arrived(vec!["a".into()]), "take a"),
        ],
    );
    let trouble = &engine.snapshot(at_ms(9)).troubles[0];
    assert_eq!((trouble.reason.as_str(), trouble.detail.as_str(), trouble.since), ("index", "left", at_ms(5).wall));
    assert_eq!(trouble.help, ["rm it"]);
    let engine = check_from(engine, vec![(10, Input::Index { locked: None }, "recovered index")]);
    assert!(engine.snapshot(at_ms(11)).troubles.is_empty());
}

#[test]
fn the_news_of_our_own_push_is_none() {
    let mut engine = check_remote(
        settings(),
        vec![
            (0, found('a', Prior::Final), "commit a"),
            (1, committed("a"), "announce a; push"),
            (2, pushed(), "pushed 1"),
        ],
    );
    let known = |engine: &Engine| ["", "c1", "c2"].map(|commit| engine.knows_tip(commit));
    assert_eq!(known(&engine), [false, true, false]);
    // Where something is wrong, a look may mend it.
    engine.handle(at_ms(3), Input::Disk { short: Some("full".into()) });
    assert_eq!(known(&engine), [false; 3]);
}

#[test]
fn what_holds_new_work_is_said_in_words() {
    assert_eq!(Engine::new(settings(), None).holds(), ["starting"]);
    let mut engine = check_remote(settings(), Vec::new());
    assert_eq!(engine.holds(), [""; 0]);
    engine.handle(at_ms(1), push_failed());
    assert_eq!(engine.holds(), [""; 0], "results that stay here hold nothing");
    engine.handle(at_ms(2), Input::Disk { short: Some("full".into()) });
    engine.handle(at_ms(3), Input::Pause { by: "ana".into(), reason: None });
    assert_eq!(engine.holds(), ["paused", "disk"]);
}

#[test]
fn old_runs_move_when_all_is_quiet() {
    let done = |commit: Option<&str>, unpublished, more| {
        Input::Archived(ArchiveReport::Done { commit: commit.map(str::to_owned), unpublished, more })
    };
    let looked = |lacks| Input::ArchiveLooked { lacks };
    let pushed = |report| Input::ArchivePushed(report);
    let moved = || pushed(PushReport::Moved);
    let failed = || pushed(PushReport::Failed { message: "no".into() });
    let taken = || PushReport::Done { commit: "tip".into() };
    check_from(
        Engine::new(Settings { once: true, ..settings() }, None),
        vec![
            (0, Input::Tick, "fetch"),
            (0, looked(false), ""),
            (0, fetched(false), "scan; archive"),
            (1, Input::Scanned, ""),
            (2, done(None, true, false), "push archive"),
            (3, pushed(taken()), "archive"),
            (4, done(Some("moved"), false, true), "push"),
            (5, Input::Pushed(taken()), "pushed 0; archive"),
            (6, done(None, false, false), "exit 0"),
        ],
    );
    check_remote(
        settings(),
        vec![
            (0, Input::Scanned, ""),
            (1, looked(true), "archive"),
            (2, done(None, true, false), "push archive"),
            (3, moved(), "fetch"),
            (4, looked(true), ""),
            (4, fetched(false), ""),
            (30, Input::Tick, "archive"),
            (31, done(None, true, false), "push archive"),
            (32, failed(), "degraded archive"),
            (33, looked(true), ""),
            (60_031, Input::Tick, ""),
            (60_032, Input::Tick, "archive"),
            (60_033, done(None, false, false), "recovered archive"),
        ],
    );
}
