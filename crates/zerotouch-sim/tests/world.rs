//! Lives in virtual time: the same engines that run on sockets, against the same cloud.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use zerotouch_sim::{Faults, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

// The canonical life: bootstrap key, certificate, telemetry, renewal, telemetry.
#[test]
fn a_device_provisions_sends_and_renews() {
    let mut world = World::new(1, 1, Faults::NONE).unwrap();
    world.run_until(MINUTE, World::all_connected).unwrap();
    assert!(world.elapsed() > Duration::from_secs(3), "the service asked for three seconds");
    for _ in 0..10 {
        assert!(world.send_telemetry(0));
    }
    world.run_until(MINUTE, |world| world.nodes()[0].acknowledged().len() == 10).unwrap();
    assert_eq!(world.nodes()[0].generation(), 1);
    assert!(world.renew(0));
    assert!(!world.renew(0), "one renewal at a time");
    world
        .run_until(MINUTE, |world| world.nodes()[0].generation() == 2 && world.all_connected())
        .unwrap();
    assert_eq!(world.nodes()[0].connections(), 2);
    assert!(world.send_telemetry(0));
    world.run_until(MINUTE, |world| world.nodes()[0].acknowledged().len() == 11).unwrap();
    assert!(world.nodes()[0].acknowledged().iter().copied().eq(0..11));
}

// Everything comes from the seed: a failure that is seen once can be seen again.
#[test]
fn a_seed_tells_the_same_story_twice() {
    let story = |seed| {
        let mut world = World::new(seed, 2, Faults::BAD_DAY).unwrap();
        world.run_for(10 * MINUTE).unwrap();
        world.story().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(story(3), story(3));
    assert_ne!(story(3), story(4));
}

// Broken connections at any byte, refused dials, a failing store: while it lasts nobody loses an
// identity, and when it is over everybody comes back.
#[test]
fn devices_come_back_when_a_bad_day_is_over() {
    for seed in 0..4 {
        let mut world = World::new(seed, 3, Faults::BAD_DAY).unwrap();
        for minute in 0..40 {
            world.run_for(MINUTE).unwrap();
            for device in 0..3 {
                world.send_telemetry(device);
                if minute % 8 == 0 {
                    world.renew(device);
                }
            }
        }
        world.set_faults(Faults::NONE);
        // The slowest ladder's cap, and the way through provisioning.
        world.run_until(HOUR + 10 * MINUTE, World::all_connected).unwrap();
    }
}
