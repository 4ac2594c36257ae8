//! Apps on several devices, over a real server.

mod capture;
mod device;
mod flows;
mod tracking;
mod worlds;
