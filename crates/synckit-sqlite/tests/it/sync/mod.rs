//! Apps on several devices, over a real server.

mod applying;
mod capture;
mod crashes;
mod device;
mod flows;
mod large;
mod processes;
mod tracking;
mod twelve;
mod worlds;
