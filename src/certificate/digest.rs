//! The digest of a certificate that a login is bound to (`tls-server-end-point`, RFC 5929): both ends compute it, so a login
//! cannot be passed on by somebody with another certificate.

use super::facts::{Der, OBJECT, SEQUENCE};

/// The hash function that a certificate was signed with, as far as channel binding uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureHash {
    /// SHA-256, which also stands for MD5 and SHA-1.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// 1.2.840.113549.1.1, the algorithms of RSA.
const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01];
/// 1.2.840.10045.4, ECDSA.
const ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04];

/// The hash function of a certificate's signature; `None` for algorithms that have none of their own, or whose hash is a
/// parameter.
pub(crate) fn signature_hash(der: &[u8]) -> Option<SignatureHash> {
    let mut certificate = Der(Der(der).inside(SEQUENCE)?);
    certificate.inside(SEQUENCE)?;
    let algorithm = Der(certificate.inside(SEQUENCE)?).inside(OBJECT)?;
    match (algorithm.strip_prefix(RSA), algorithm.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(SignatureHash::Sha256),
        (Some([12]), _) | (_, Some([3, 3])) => Some(SignatureHash::Sha384),
        (Some([13]), _) | (_, Some([3, 4])) => Some(SignatureHash::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(SignatureHash::Sha256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(SignatureHash::Sha384)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let made = rcgen::CertificateParams::new(["db".to_owned()]).unwrap().self_signed(&key).unwrap();
            assert_eq!(signature_hash(made.der()), hash);
            assert_eq!(signature_hash(&made.der()[..40]), None);
        }
    }
}
