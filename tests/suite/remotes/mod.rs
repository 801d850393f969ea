//! Remotes that refuse, hang, die, lie, or were rewritten, and everybody else who pushes to them. Each test has a real
//! repository on the other side, behind `git receive-pack`.

mod committers;
mod cut;
mod hostile;
mod people;
mod refusing;
mod rewritten;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::world::{World, eventually};

/// Gives the remote a hook; it stands in the bare repository when it runs.
fn hook(world: &World, name: &str, script: &str) {
    let path = world.remote().join("hooks").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Renamed into its place: a file that is still open for writing cannot be executed.
    let beside = world.path().join(name);
    fs::write(&beside, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(beside, path).unwrap();
}

fn unhook(world: &World, name: &str) {
    fs::remove_file(world.remote().join("hooks").join(name)).unwrap();
}

/// Waits until the remote branch is the local one.
#[track_caller]
fn published(world: &World) {
    let tip = |at: &std::path::Path| world.try_git(at, &["rev-parse", "refs/heads/main"]).out;
    eventually("everything is published", || {
        let here = tip(&world.ops());
        !here.is_empty() && tip(&world.remote()) == here
    });
}

/// The events of that name, from `from` on.
fn events(world: &World, from: usize, name: &str) -> Vec<Value> {
    world.events().into_iter().skip(from).filter(|event| event["event"] == name).collect()
}

/// Waits until the daemon says that it is degraded so; what it says.
#[track_caller]
fn degraded(world: &World, from: usize, reason: &str) -> String {
    let what = format!("degraded: {reason}");
    let event = world.event(from, &what, |e| e["event"] == "dispatcher.degraded" && e["reason"] == reason);
    event["detail"].as_str().unwrap().to_owned()
}

/// Waits until that is over.
#[track_caller]
fn recovered(world: &World, from: usize, reason: &str) {
    let what = format!("recovered: {reason}");
    world.event(from, &what, |e| e["event"] == "dispatcher.recovered" && e["reason"] == reason);
}

/// Every result that the remote holds, once, by the name of its request.
fn on_remote(world: &World) -> Vec<String> {
    let statuses = crate::world::statuses(world, &world.remote(), "main").into_values();
    let mut names: Vec<String> = statuses.map(|status| status["request"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}
