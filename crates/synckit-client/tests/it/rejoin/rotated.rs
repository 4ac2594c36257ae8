//! A restored server that knows other keys than the devices.

use synckit_client::{Error, Tampering};

use super::app::{App, converge, union};
use crate::world::World;

#[tokio::test]
async fn rotation_unknown_to_the_backup_is_put_back() {
    // A rotation that the backup does not know is put back.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let mut tablet = App::new(world.next_device(&user, "tablet").await);
    laptop.edit("a", 1);
    for app in [&mut laptop, &mut phone, &mut tablet] {
        app.sync().await.unwrap();
    }
    let backup = world.backup();
    for round in 0..2 {
        laptop.edit("b", 10 + round);
        laptop.sync().await.unwrap();
        laptop.client.rotate_keys(&user.password).await.unwrap();
    }
    laptop.edit("c", 20);
    laptop.sync().await.unwrap();
    phone.client.setup_encryption_existing(&user.password).await.unwrap();
    phone.sync().await.unwrap();
    phone.edit("d", 21);
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;

    // It has heard of nothing, and writes on under the old key, further than where that key ended.
    for time in 30..40 {
        tablet.edit("e", time);
        tablet.sync().await.unwrap();
    }
    let expected = union(&[&laptop, &phone, &tablet]);

    let evidence = laptop.evidence().await;
    let error = laptop.client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tampering(Tampering::EnvelopeReplaced {
                held_version: 3,
                found_version: 1
            })
        ),
        "{error:?}"
    );
    laptop.client.restore_envelope(&user.password).await.unwrap();
    // The keys are back; the history is another decision.
    assert!(laptop.sync().await.unwrap_err().is_tampering());
    laptop.rejoin(&evidence).await;
    laptop.sync().await.unwrap();

    // The next device takes the ends of the keys from the envelope, without a password.
    let evidence = phone.evidence().await;
    phone.rejoin(&evidence).await;
    phone.sync().await.unwrap();
    let error = tablet.sync().await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    tablet.client.setup_encryption_existing(&user.password).await.unwrap();
    converge(&world, &user, &mut [&mut laptop, &mut phone, &mut tablet], &expected).await;
}

#[tokio::test]
async fn rotations_in_two_histories_are_joined() {
    // Two devices that rotated in two histories come together.
    let world = World::start().await;
    let user = world.user().await;
    let mut laptop = App::new(world.first_device(&user).await);
    let mut phone = App::new(world.next_device(&user, "phone").await);
    let backup = world.backup();
    laptop.edit("a", 1);
    laptop.sync().await.unwrap();
    laptop.client.rotate_keys(&user.password).await.unwrap();
    laptop.edit("b", 2);
    laptop.sync().await.unwrap();
    let world = world.restore(backup).await;
    phone.edit("c", 3);
    phone.client.rotate_keys(&user.password).await.unwrap();
    phone.sync().await.unwrap();
    let expected = union(&[&laptop, &phone]);

    let evidence = laptop.evidence().await;
    // Another key of the same version is not taken behind the user's back.
    let replaced = |error: &Error| {
        matches!(
            error,
            Error::Tampering(Tampering::EnvelopeReplaced {
                held_version: 2,
                found_version: 2
            })
        )
    };
    let error = laptop.client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(replaced(&error), "{error:?}");
    let error = laptop
        .client
        .setup_encryption_existing(&user.password)
        .await
        .unwrap_err();
    assert!(replaced(&error), "{error:?}");
    let error = laptop.client.rotate_keys(&user.password).await.unwrap_err();
    assert!(replaced(&error), "{error:?}");
    // Nor one of a later version that never took the place of this device's key.
    phone.client.rotate_keys(&user.password).await.unwrap();
    let error = laptop.client.rejoin(&evidence, laptop.cursor).await.unwrap_err();
    assert!(matches!(error, Error::KeyRotated { .. }), "{error:?}");
    let error = laptop
        .client
        .setup_encryption_existing(&user.password)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Tampering(Tampering::EnvelopeReplaced {
                held_version: 2,
                found_version: 3
            })
        ),
        "{error:?}"
    );
    // Its own key is nobody's any more, and must not replace the other.
    let before = world.envelope_versions(&user).await;
    laptop.client.restore_envelope(&user.password).await.unwrap();
    assert_eq!(world.envelope_versions(&user).await, before);
    laptop.rejoin(&evidence).await;
    converge(&world, &user, &mut [&mut laptop, &mut phone], &expected).await;
}
