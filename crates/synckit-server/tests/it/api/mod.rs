//! The endpoints, a module for each resource, and what holds for all of them.

mod account_data;
mod accounts;
mod blobs;
mod devices;
mod log;
mod openapi;
mod owner_keys;
mod problems;
mod snapshots;
mod tenant_matrix;
mod tenants;
