//! The CONNECT user name: which service a client means, and as whom.
//!
//! ```text
//!   DPS  {id scope}/registrations/{registration id}/api-version={version}&…
//!   hub  {host}/{device id}/?api-version={version}&…      (before 2017 without the ?)
//! ```

use zerotouch_wire::PropertyBag;

/// A user name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserName<'a> {
    Dps { id_scope: &'a str, registration_id: &'a str, api_version: &'a str },
    Hub { host: &'a str, device_id: &'a str, api_version: &'a str },
}

impl<'a> UserName<'a> {
    /// Parses leniently: the `?` may be there or not, parameters in any order, none of them needed
    /// here (a missing api-version is empty). `None` for what is neither service's.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (path, parameters) = text.rsplit_once('/')?;
        let api_version = PropertyBag::new(parameters).get("api-version").unwrap_or_default();
        let mut parts = path.split('/');
        match (parts.next()?, parts.next()?, parts.next(), parts.next()) {
            (id_scope, "registrations", Some(registration_id), None) => {
                Some(Self::Dps { id_scope, registration_id, api_version })
            }
            (host, device_id, None, None) => Some(Self::Hub { host, device_id, api_version }),
            // Three parts are a module of a device, which is not emulated.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // User names as the SDKs send them.
    #[test]
    fn tells_the_services_apart() {
        let python =
            "0neEMULATOR/registrations/d1/api-version=2019-03-31&ClientVersion=azure-iot%2F2";
        assert_eq!(
            UserName::parse(python),
            Some(UserName::Dps {
                id_scope: "0neEMULATOR",
                registration_id: "d1",
                api_version: "2019-03-31"
            })
        );
        let hub = |text| match UserName::parse(text) {
            Some(UserName::Hub { host, device_id, api_version }) => {
                Some((host, device_id, api_version))
            }
            _ => None,
        };
        let current = "localhost/d1/?DeviceClientType=x%2F1&api-version=2021-04-12";
        assert_eq!(hub(current), Some(("localhost", "d1", "2021-04-12")));
        let ancient = "h/d1/api-version=2016-11-14";
        assert_eq!(hub(ancient), Some(("h", "d1", "2016-11-14")));
        assert_eq!(hub("h/registrations/?api-version=1"), Some(("h", "registrations", "1")));
        assert_eq!(hub("h/d/"), Some(("h", "d", "")));
        for stranger in ["", "h", "h/d", "h/d/m/?api-version=1", "a/b/c/d/e"] {
            assert!(
                !matches!(UserName::parse(stranger), Some(UserName::Hub { device_id: "d", .. })),
                "{stranger}"
            );
        }
    }
}
