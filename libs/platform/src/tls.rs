//! The one TLS stack: rustls with aws-lc-rs.

/// Makes aws-lc-rs the crypto provider of this process. Called first thing by [`crate::Process::run`]; tests that
/// open TLS connections by themselves call it too. Repeating it is harmless.
pub fn install_provider() {
    // An error only says that a provider is installed already, which is what we want.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
