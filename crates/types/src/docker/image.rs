//! Images as the API shows them.
