//! Apps on several devices, over a real server.

mod applying;
mod capture;
mod conflicts;
mod crashes;
mod device;
mod flows;
mod folding;
mod gateway;
mod large;
mod missing;
mod processes;
mod refusals;
mod restored;
mod room;
mod status;
mod sweep;
mod tracking;
mod twelve;
mod unreadable;
mod worlds;
