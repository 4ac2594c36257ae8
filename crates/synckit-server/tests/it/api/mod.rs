//! The endpoints, a module for each resource, and what holds for all of them.

mod account;
mod blobs;
mod devices;
mod encodings;
mod events;
mod frozen_database;
mod log;
mod openapi;
mod owner_keys;
mod passwords;
mod pending_accounts;
mod problems;
mod registration;
mod sessions;
mod snapshots;
mod tenant_matrix;
mod tenants;
