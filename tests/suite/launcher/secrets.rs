//! How a handler is given its secrets, and what is left of them.

use std::fs;
use std::sync::Arc;

use dispatcher::executor::{Ended, How};
use dispatcher::mask::Mask;
use dispatcher::sandbox::Plan;
use dispatcher::secret::SecretValue;

use super::stage::{Stage, alive, eventually, supervisor_of};

const VALUE: &str = "hunter2-hunter\nsecond line";

fn with_secret(mut plan: Plan, as_files: bool) -> Plan {
    plan.secrets = vec![("TOKEN".to_owned(), SecretValue::from(VALUE.as_bytes().to_vec()))];
    plan.secrets_as_files = as_files;
    plan
}

#[test]
fn as_variables_they_replace_others_of_that_name() {
    let stage = Stage::new();
    let mut plan = with_secret(stage.script("printf %s \"$TOKEN\"; env | grep -c ^TOKEN="), false);
    plan.env = vec![("TOKEN".into(), "plain".into())];
    assert!(!format!("{plan:?}").contains("hunter"));
    assert_eq!(stage.run(plan).1, format!("{VALUE}1\n"));
}

#[test]
fn as_files_they_are_in_memory_and_the_users_own() {
    let stage = Stage::with_memory();
    let plan = with_secret(
        stage.script(
            "cat $TOKEN; echo; stat -c '%a %u' $TOKEN $(dirname $TOKEN); stat -f -c %T $TOKEN; ls $(dirname $(dirname $TOKEN)) 2>&1 | grep -c denied; echo x >$TOKEN; true",
        ),
        true,
    );
    let (outcome, output) = stage.run(plan);
    let user = stage.executor.user();
    // Its own user could list the folder if that were its own too.
    let hidden = usize::from(user.switch);
    assert_eq!(
        output.lines().take(6).collect::<Vec<_>>().join("\n"),
        format!("{VALUE}\n400 {0}\n700 {0}\ntmpfs\n{hidden}", user.uid)
    );
    assert_eq!(outcome.ended, Ended::Exited(0));
    assert_eq!(fs::read_dir(&stage.memory.as_ref().unwrap().0).unwrap().count(), 0, "gone afterwards");
}

#[test]
fn files_in_memory_go_when_a_run_is_killed() {
    let stage = Stage::with_memory();
    let plan = with_secret(stage.script("echo $$; exec sleep 600"), true);
    let id = plan.id;
    stage.executor.submit(plan).unwrap();
    stage.first_line();
    assert_eq!(fs::read_dir(&stage.memory.as_ref().unwrap().0).unwrap().count(), 1);
    stage.executor.terminate(id, How::Kill);
    stage.outcome();
    assert_eq!(fs::read_dir(&stage.memory.as_ref().unwrap().0).unwrap().count(), 0);
}

#[test]
fn progress_and_result_are_masked() {
    let stage = Stage::new();
    let mut plan = with_secret(
        stage.script(
            "echo \"1/2 with hunter2-hunter in it\" >>$DISPATCH_PROGRESS\nprintf '{\"a\": [\"x second line\"], \"hunter2-hunter\": 1}' >$DISPATCH_RESULT",
        ),
        false,
    );
    plan.mask = Arc::new(Mask::new([VALUE.as_bytes()]).unwrap());
    stage.executor.submit(plan).unwrap();
    let outcome = stage.outcome();
    assert_eq!(outcome.result, Some(serde_json::json!({"a": ["x [masked]"], "[masked]": 1})));
    let news = format!("{:?}", stage.news.try_iter().collect::<Vec<_>>());
    assert!(news.contains("with [masked] in it") && !news.contains("hunter"), "{news}");
}

#[test]
fn nobody_but_root_sees_a_supervisors_memory() {
    let stage = Stage::new();
    let plan = with_secret(stage.script("echo $$; read line; sleep 600"), false);
    let id = plan.id;
    stage.executor.submit(plan).unwrap();
    stage.output_until(|text| text.contains('\n'));
    let leader = super::stage::marked(&format!("DISPATCH_ID={id}"))[0];
    let supervisor = supervisor_of(leader);
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(format!("/proc/{supervisor}/environ")).unwrap().uid();
    assert_eq!(owner, 0, "as of a process that cannot be dumped");
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{supervisor}/{file}")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter"), "{file}");
    }
    stage.executor.terminate(id, How::Kill);
    stage.outcome();
    eventually("it is gone", || !alive(leader));
}
