//! The key exchange over P-256.

use getrandom::SysRng;
use p256::ecdh::EphemeralSecret;
use p256::elliptic_curve::Generate;
use p256::{PublicKey, Sec1Point};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// An uncompressed point, the one form that TLS has (RFC 8446 §4.2.8.2, RFC 8422 §5.4.1).
const POINT_LEN: usize = 65;

/// By the curve that the device's keys use anyway.
#[derive(Debug)]
pub(crate) struct P256;

struct Begun {
    secret: EphemeralSecret,
    public: Sec1Point,
}

impl SupportedKxGroup for P256 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = EphemeralSecret::try_generate_from_rng(&mut SysRng)
            .map_err(|_| Error::from(GetRandomFailed))?;
        let public = Sec1Point::from(secret.public_key());
        Ok(Box::new(Begun { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

impl ActiveKeyExchange for Begun {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        if theirs.len() != POINT_LEN {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let theirs = PublicKey::from_sec1_bytes(theirs)
            .map_err(|_| Error::from(PeerMisbehaved::InvalidKeyShare))?;
        let shared = self.secret.diffie_hellman(&theirs);
        Ok(SharedSecret::from(shared.raw_secret_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both ends come to one secret, with ring at the other; what is no point of the curve in TLS's form, or the
    // point at infinity, is refused and not computed with.
    #[test]
    fn agrees_with_ring_and_refuses_what_is_no_point() {
        let ring = rustls::crypto::ring::kx_group::SECP256R1;
        let (ours, theirs) = (P256.start().unwrap(), ring.start().unwrap());
        let (our_point, their_point) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
        let secret = ours.complete(&their_point).unwrap();
        assert_eq!(secret.secret_bytes(), theirs.complete(&our_point).unwrap().secret_bytes());

        let mut off_the_curve = their_point.clone();
        off_the_curve[64] ^= 1;
        let compressed = [&[2 + (their_point[64] & 1)], &their_point[1..33]].concat();
        let mut hybrid = their_point.clone();
        hybrid[0] = 6 + (their_point[64] & 1);
        for point in
            [&off_the_curve[..], &compressed, &hybrid, &[0], &[0; 65], &[], &their_point[..64]]
        {
            let refused = P256.start().unwrap().complete(point).err();
            assert_eq!(refused, Some(PeerMisbehaved::InvalidKeyShare.into()), "{point:02x?}");
        }
    }
}
