//! Devices and envelopes.

use crate::{Device, DeviceRegistration, DeviceRename, EnvelopeWrite, NewDevice, NewEnvelope, Store, StreamId};
use synckit_protocol::{Head, InstallationId, KeyId, Position, limits::DEVICES_MAX, wire::devices::Platform};

use crate::conformance::fixture::{
    KEY, NOW, append_all, create_stream, device_id, end_of, id16, new_device, new_envelope, open_session, ready_stream,
    register, registered, session_id, sign_in, start,
};

pub async fn a_new_name_is_a_new_device(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let device = registered(store, new_device(stream, 1)).await;
    let expected = Device {
        id: device_id(1),
        name: "device 1".into(),
        platform: Platform::Linux,
        created_at: NOW,
        last_seen_at: NOW,
    };
    assert_eq!(device, expected);
    assert_eq!(store.devices(stream).await.unwrap(), [expected]);
}

pub async fn a_known_name_is_found_again_with_its_new_platform(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    register(store, stream, 1).await;
    let again = NewDevice {
        new_id: device_id(2),
        platform: Platform::Macos,
        now: NOW + 5,
        ..new_device(stream, 1)
    };
    let device = registered(store, again).await;
    assert_eq!((device.id, device.platform), (device_id(1), Platform::Macos));
    assert_eq!((device.created_at, device.last_seen_at), (NOW, NOW + 5));
    assert_eq!(store.devices(stream).await.unwrap(), [device]);
}

pub async fn registering_binds_the_session(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    register(store, stream, 1).await;
    let session = store.session(session_id(1), NOW).await.unwrap().unwrap();
    assert_eq!(
        (session.device_id, session.device_name.as_deref()),
        (Some(device_id(1)), Some("device 1"))
    );
}

pub async fn a_session_keeps_its_device(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    let phone = installation(stream, 1);
    registered(store, phone.clone()).await;
    register(store, stream, 2).await;
    for other in [new_device(stream, 2), new_device(stream, 3), installation(stream, 4)] {
        let other = NewDevice {
            session_id: session_id(1),
            ..other
        };
        assert_eq!(
            store.register_device(other).await.unwrap(),
            DeviceRegistration::OtherDevice
        );
    }
    assert_eq!(registered(store, phone).await.id, device_id(1), "the same device again");
    assert_eq!(store.devices(stream).await.unwrap().len(), 2, "nothing was registered");
    let ended = store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    assert_eq!(ended, Some(vec![session_id(1)]));
}

pub async fn an_ended_session_gets_no_device(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    register(store, stream, 1).await;
    store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    for again in [new_device(stream, 1), new_device(stream, 2)] {
        assert_eq!(
            store.register_device(again).await.unwrap(),
            DeviceRegistration::SessionEnded
        );
    }
    let foreign = NewDevice {
        session_id: session_id(5),
        ..new_device(stream, 3)
    };
    open_session(store, create_stream(store, 2).await, 5).await;
    assert_eq!(
        store.register_device(foreign).await.unwrap(),
        DeviceRegistration::SessionEnded
    );
    assert!(store.devices(stream).await.unwrap().is_empty());
}

pub async fn an_installation_has_one_device_under_any_name(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    registered(store, installation(stream, 1)).await;
    store.rename_device(stream, device_id(1), "kitchen").await.unwrap();
    let again = NewDevice {
        new_id: device_id(2),
        ..installation(stream, 1)
    };
    let device = registered(store, again.clone()).await;
    assert_eq!((device.id, device.name.as_str()), (device_id(1), "kitchen"));
    // In another stream, and after a revocation, it is a device of its own.
    let other = create_stream(store, 2).await;
    let elsewhere = NewDevice {
        stream: other,
        session_id: session_id(2),
        ..again.clone()
    };
    assert_eq!(registered(store, elsewhere).await.id, device_id(2));
    store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    let device = registered(store, again).await;
    assert_eq!((device.id, device.name.as_str()), (device_id(2), "device 1"));
}

pub async fn a_taken_name_gets_a_number(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let name = async |device: NewDevice| {
        let device = NewDevice {
            name: "MacBook".to_owned(),
            ..device
        };
        registered(store, device).await.name
    };
    assert_eq!(name(installation(stream, 1)).await, "MacBook");
    assert_eq!(name(installation(stream, 2)).await, "MacBook (2)");
    // Clients without an installation are found by the name, and never get another device.
    assert_eq!(name(new_device(stream, 3)).await, "MacBook (3)");
    assert_eq!(name(new_device(stream, 4)).await, "MacBook (3)");
    assert_eq!(name(installation(stream, 5)).await, "MacBook (4)");
    assert_eq!(name(installation(stream, 1)).await, "MacBook");
    assert_eq!(store.devices(stream).await.unwrap().len(), 4);
}

/// Device `n` of installation `n`.
fn installation(stream: StreamId, n: u64) -> NewDevice {
    NewDevice {
        installation_id: Some(InstallationId::from_bytes(id16(n))),
        ..new_device(stream, n)
    }
}

pub async fn the_same_name_in_another_stream_is_another_device(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let other = create_stream(store, 2).await;
    register(store, stream, 1).await;
    let device = NewDevice {
        new_id: device_id(2),
        session_id: session_id(2),
        ..new_device(other, 1)
    };
    assert_eq!(registered(store, device).await.id, device_id(2));
}

pub async fn the_hundred_and_first_device_is_too_many(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let most = u64::from(DEVICES_MAX);
    for n in 1..=most {
        register(store, stream, n).await;
    }
    let one_more = new_device(stream, most + 1);
    sign_in(store, &one_more).await;
    assert_eq!(
        store.register_device(one_more.clone()).await.unwrap(),
        DeviceRegistration::TooMany
    );
    assert_eq!(register(store, stream, 1).await, device_id(1));
    store.revoke_device(stream, device_id(7), NOW).await.unwrap();
    assert_eq!(registered(store, one_more).await.id, device_id(most + 1));
}

pub async fn devices_are_listed_in_order_of_registration(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    assert!(store.devices(stream).await.unwrap().is_empty());
    for n in [3, 1, 2] {
        register(store, stream, n).await;
    }
    let listed: Vec<_> = store
        .devices(stream)
        .await
        .unwrap()
        .iter()
        .map(|device| device.id)
        .collect();
    assert_eq!(listed, [3, 1, 2].map(device_id));
}

pub async fn a_device_is_renamed_to_a_free_name(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    register(store, stream, 1).await;
    register(store, stream, 2).await;
    let rename = async |name| store.rename_device(stream, device_id(1), name).await.unwrap();
    assert_eq!(rename("device 2").await, DeviceRename::NameTaken);
    for name in ["desk", "desk", "shelf"] {
        match rename(name).await {
            DeviceRename::Renamed(device) => assert_eq!((device.id, device.name.as_str()), (device_id(1), name)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.devices(stream).await.unwrap()[0].name, "shelf");
}

pub async fn a_device_of_another_stream_is_not_found(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let other = create_stream(store, 2).await;
    register(store, stream, 1).await;
    register(store, other, 2).await;
    assert_eq!(
        store.rename_device(stream, device_id(2), "mine").await.unwrap(),
        DeviceRename::NotFound
    );
    assert_eq!(store.revoke_device(stream, device_id(2), NOW).await.unwrap(), None);
    assert_eq!(store.devices(other).await.unwrap()[0].name, "device 2");
}

pub async fn revoking_ends_the_sessions_of_the_device_only(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for n in [1, 2, 3] {
        open_session(store, stream, n).await;
    }
    register(store, stream, 1).await;
    register(store, stream, 2).await;
    let second_session = NewDevice {
        session_id: session_id(3),
        ..new_device(stream, 1)
    };
    registered(store, second_session).await;
    let mut ended = store.revoke_device(stream, device_id(1), NOW).await.unwrap().unwrap();
    ended.sort();
    assert_eq!(ended, [session_id(1), session_id(3)]);
    assert_eq!(store.session(session_id(1), NOW).await.unwrap(), None);
    assert!(store.session(session_id(2), NOW).await.unwrap().is_some());
    assert_eq!(store.devices(stream).await.unwrap().len(), 1);
}

pub async fn revoking_twice_ends_nothing_more(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    register(store, stream, 1).await;
    assert_eq!(
        store.revoke_device(stream, device_id(1), NOW).await.unwrap(),
        Some(vec![session_id(1)])
    );
    assert_eq!(
        store.revoke_device(stream, device_id(1), NOW).await.unwrap(),
        Some(vec![])
    );
    assert_eq!(store.revoke_device(stream, device_id(2), NOW).await.unwrap(), None);
}

pub async fn a_revoked_name_is_free_for_a_new_device(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    register(store, stream, 1).await;
    store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    let again = NewDevice {
        new_id: device_id(2),
        ..new_device(stream, 1)
    };
    let device = registered(store, again).await;
    assert_eq!((device.id, device.name.as_str()), (device_id(2), "device 1"));
    assert_eq!(store.devices(stream).await.unwrap(), [device]);
}

pub async fn a_revoked_device_cannot_be_renamed(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    register(store, stream, 1).await;
    store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    assert_eq!(
        store.rename_device(stream, device_id(1), "back").await.unwrap(),
        DeviceRename::NotFound
    );
}

pub async fn the_first_envelope_replaces_version_zero(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    assert_eq!(store.envelope(stream).await.unwrap(), None);
    assert_eq!(
        store.put_envelope(new_envelope(stream, 1)).await.unwrap(),
        EnvelopeWrite::Conflict(0)
    );
    assert_eq!(
        store.put_envelope(new_envelope(stream, 0)).await.unwrap(),
        EnvelopeWrite::Written(1)
    );
    assert_eq!(
        store.put_envelope(new_envelope(stream, 0)).await.unwrap(),
        EnvelopeWrite::Conflict(1)
    );
    let envelope = store.envelope(stream).await.unwrap().unwrap();
    assert_eq!(
        (envelope.envelope.as_slice(), envelope.version),
        (&b"envelope 1"[..], 1)
    );
    assert_eq!((envelope.key_id, envelope.updated_at), (KEY, NOW));
}

pub async fn an_envelope_replaces_only_the_current_version(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for version in 0..20 {
        let mut envelope = new_envelope(stream, version);
        envelope.key_id = KeyId::from_bytes([u8::try_from(version).unwrap(); 16]);
        envelope.head = Some(start(stream));
        assert_eq!(
            store.put_envelope(envelope).await.unwrap(),
            EnvelopeWrite::Written(version + 1)
        );
    }
    for stale in [0, 19, 21] {
        assert_eq!(
            store.put_envelope(new_envelope(stream, stale)).await.unwrap(),
            EnvelopeWrite::Conflict(20)
        );
    }
    let envelope = store.envelope(stream).await.unwrap().unwrap();
    assert_eq!(
        (envelope.envelope.as_slice(), envelope.version),
        (&b"envelope 20"[..], 20)
    );
    assert_eq!(envelope.key_id, KeyId::from_bytes([19; 16]));
}

pub async fn envelopes_of_streams_are_apart(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let other = create_stream(store, 2).await;
    store.put_envelope(new_envelope(stream, 0)).await.unwrap();
    assert_eq!(store.envelope(other).await.unwrap(), None);
    assert_eq!(
        store.put_envelope(new_envelope(other, 0)).await.unwrap(),
        EnvelopeWrite::Written(1)
    );
}

pub async fn another_master_key_is_written_only_at_the_head(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[2, 3]).await;
    let (first, second) = (end_of(&batches[0]), end_of(&batches[1]));
    let put = async |head| {
        let envelope = NewEnvelope {
            key_id: KeyId::from_bytes([0xdd; 16]),
            head,
            ..new_envelope(stream, 1)
        };
        store.put_envelope(envelope).await.unwrap()
    };
    assert_eq!(put(None).await, EnvelopeWrite::HeadMissing);
    let EnvelopeWrite::Behind(page) = put(Some(first)).await else {
        panic!("the first batch is not the head")
    };
    assert_eq!((page.digests.len(), page.latest, page.has_more), (1, second, false));
    let elsewhere = Position {
        head: Head::from_bytes([9; 32]),
        ..second
    };
    assert_eq!(put(Some(elsewhere)).await, EnvelopeWrite::Diverged { latest: second });
    assert_eq!(
        store.envelope(stream).await.unwrap().unwrap().version,
        1,
        "nothing was written"
    );
    // Under the same key the head does not matter.
    assert_eq!(
        store.put_envelope(new_envelope(stream, 1)).await.unwrap(),
        EnvelopeWrite::Written(2)
    );
}
