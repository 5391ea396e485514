//! Which hub a device goes to (Azure docs, "How to use allocation policies").

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::fixture::{Allocation, Latency, Reprovision, Terms, Webhook};

/// What an enrolment says about a device's hub.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// This one, by its place in the fixture.
    Hub(usize),
    /// What the webhook says.
    Ask(&'a Webhook),
}

/// The hubs as the provisioning service knows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    pub(super) hubs: &'a [String],
    pub(super) latencies: &'a [Latency],
}

impl<'a> Map<'a> {
    /// The hubs that devices of an enrolment may go to.
    pub(super) fn open<'t>(
        self,
        terms: Terms<'t>,
    ) -> impl Iterator<Item = (usize, &'a str)> + use<'a, 't> {
        let hubs = self.hubs.iter().map(String::as_str).enumerate();
        hubs.filter(move |(_, hub)| {
            terms.hubs.is_empty() || terms.hubs.iter().any(|one| one == hub)
        })
    }

    /// Chooses for a device, which may be at the hub `former` already. `None` if there is no hub for it.
    pub(super) fn choose<'t>(
        self,
        terms: Terms<'t>,
        registration_id: &str,
        former: Option<usize>,
    ) -> Option<Choice<'t>> {
        let stays = terms.reprovision == Reprovision::Never;
        if let Some(hub) = former.filter(|hub| stays && *hub < self.hubs.len()) {
            return Some(Choice::Hub(hub));
        }
        let open: Vec<(usize, &str)> = self.open(terms).collect();
        let hubs: Vec<usize> = match terms.allocation {
            Allocation::Custom(webhook) if !open.is_empty() => return Some(Choice::Ask(webhook)),
            Allocation::GeoLatency => {
                let far = |hub| self.latency(registration_id, hub);
                let least = open.iter().map(|(_, hub)| far(hub)).min();
                let nearest = open.iter().filter(|(_, hub)| Some(far(hub)) == least);
                nearest.map(|(at, _)| *at).collect()
            }
            _ => open.iter().map(|(at, _)| *at).collect(),
        };
        hubs.get(spread(registration_id, hubs.len())).copied().map(Choice::Hub)
    }

    fn latency(self, registration_id: &str, hub: &str) -> Duration {
        let fits = |one: &&Latency| one.hub == hub && registration_id.starts_with(&one.prefix);
        self.latencies.iter().find(fits).map_or(Duration::MAX, |one| one.latency)
    }
}

/// Which of so many hubs a device goes to: always the same, and over many devices evenly.
fn spread(registration_id: &str, hubs: usize) -> usize {
    let hash = Sha256::digest(registration_id.to_ascii_lowercase());
    let number = hash[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // The remainder is below the number of hubs, which is a usize.
    usize::try_from(number % hubs.max(1) as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fixture::EnrollmentGroup;
    use super::*;

    fn hubs() -> Vec<String> {
        ["a", "b", "c"].map(String::from).into()
    }

    fn latency(prefix: &str, hub: &str, millis: u64) -> Latency {
        let latency = Duration::from_millis(millis);
        Latency { prefix: prefix.into(), hub: hub.into(), latency }
    }

    /// Where a hundred devices of a group go whose ids begin so.
    fn spread_of(group: &EnrollmentGroup, latencies: &[Latency], prefix: &str) -> BTreeSet<usize> {
        let hubs = hubs();
        let map = Map { hubs: &hubs, latencies };
        let choose = |n: i32| map.choose(group.terms(), &format!("{prefix}{n}"), None).unwrap();
        let hub = |choice| match choice {
            Choice::Hub(hub) => hub,
            Choice::Ask(_) => panic!("asks"),
        };
        (0..100).map(choose).map(hub).collect()
    }

    // Devices are spread over the hubs of their enrolment, and over no others.
    #[test]
    fn hashed_uses_all_hubs_of_the_enrolment() {
        let mut group = EnrollmentGroup::symmetric("g");
        assert_eq!(spread_of(&group, &[], ""), [0, 1, 2].into());
        group.hubs = vec!["c".into(), "a".into()];
        assert_eq!(spread_of(&group, &[], ""), [0, 2].into());
        (group.allocation, group.hubs) = (Allocation::Static, vec!["b".into()]);
        assert_eq!(spread_of(&group, &[], ""), [1].into());
    }

    // The lowest latency wins where the device is, of the hubs that it may go to; equals share.
    #[test]
    fn geo_latency_uses_the_nearest() {
        let mut group = EnrollmentGroup {
            allocation: Allocation::GeoLatency,
            ..EnrollmentGroup::symmetric("g")
        };
        let latencies = [
            latency("eu-", "a", 9),
            latency("eu-", "b", 80),
            latency("", "a", 70),
            latency("", "b", 20),
            latency("", "c", 20),
        ];
        assert_eq!(spread_of(&group, &latencies, "eu-"), [0].into());
        assert_eq!(spread_of(&group, &latencies, "us-"), [1, 2].into());
        // What is not in the table is farthest, and all are where nothing is.
        assert_eq!(spread_of(&group, &latencies[..2], "eu-"), [0].into());
        assert_eq!(spread_of(&group, &[], "eu-"), [0, 1, 2].into());
        group.hubs = vec!["b".into(), "c".into()];
        assert_eq!(spread_of(&group, &latencies, "eu-"), [2].into());
    }

    // A device that is never moved is not even asked about.
    #[test]
    fn never_stays() {
        let (hubs, webhook) = (hubs(), Webhook { url: "http://x".into(), api_version: "1".into() });
        let group = EnrollmentGroup {
            allocation: Allocation::Custom(webhook.clone()),
            reprovision: Reprovision::Never,
            ..EnrollmentGroup::symmetric("g")
        };
        let map = Map { hubs: &hubs, latencies: &[] };
        assert_eq!(map.choose(group.terms(), "d", Some(1)), Some(Choice::Hub(1)));
        assert_eq!(map.choose(group.terms(), "d", None), Some(Choice::Ask(&webhook)));
        // Its hub is no more.
        assert_eq!(map.choose(group.terms(), "d", Some(3)), Some(Choice::Ask(&webhook)));
        let gone = EnrollmentGroup { hubs: vec!["d".into()], ..group };
        assert_eq!(map.choose(gone.terms(), "d", None), None);
    }
}
