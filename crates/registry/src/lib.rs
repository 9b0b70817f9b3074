//! A client of the OCI distribution specification 1.1 (and Docker's registry API v2, its ancestor).
//!
//! It resolves references, fetches manifests and streams blobs; it knows nothing of where they are kept. It is
//! synchronous: parallel downloads are the caller's threads over one [`Client`], which is cheap to clone.
//!
//! ```text
//! client.rs       what callers use: resolve, manifest, blob
//!   manifest.rs   bytes → a verified, typed document
//!   blob.rs       a blob as a stream that survives broken connections
//!   session.rs    one authorised request: challenges, retries, the registry's own errors
//!     auth.rs, challenge.rs, credentials.rs     WWW-Authenticate → Authorization
//!     transport.rs                              agents, redirects, cancellation
//!       tls.rs, proxy.rs, url.rs, failure.rs    whom to trust, through whom, where to, what went wrong
//!       dns/                                    names → addresses without libc's resolver
//! ```
//!
//! Invariants:
//! - what a user configured is passed in as [`Config`]; no environment variable is read;
//! - `Authorization` goes to the registry that it is for and to no other host, whatever a redirect says;
//! - bytes of a manifest are returned only after their digest was checked; bytes of a blob are checked by whoever
//!   consumes the stream (it has to hash them anyway), their number is checked here;
//! - every wait is bounded, and [`Client::cancel`] ends all of them at once.

mod auth;
mod blob;
mod challenge;
mod client;
mod config;
mod credentials;
mod dns;
mod error;
mod failure;
mod manifest;
mod proxy;
mod session;
mod tls;
mod transport;
mod url;

pub use blob::BlobReader;
pub use client::Client;
pub use config::{Config, Proxies, Retry, Timeouts};
pub use credentials::{Credential, CredentialHelper};
pub use error::Error;
pub use manifest::{Document, Fetched, MANIFEST_MAX};
