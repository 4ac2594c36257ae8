//! The promises of every store: one fact per function, each with a fresh store.
//!
//! A new implementation writes a harness (something with `async fn open() -> Self` and `fn store(&self) -> &dyn Store`,
//! which holds whatever the store lives in) and calls [`conformance_suite!`](crate::conformance_suite) with it: every fact
//! becomes a test of its own. The test `conformance::every_fact_is_listed` compares the list below with the functions.
//!
//! A fact fails by a panic, like a test.

#![expect(
    clippy::unwrap_used,
    missing_docs,
    reason = "facts are tests: they fail by panicking, and their names say all"
)]

pub mod accounts;
pub mod addresses;
pub mod allowances;
pub mod apps;
pub mod blobs;
pub mod deletion;
pub mod device_grants;
pub mod devices;
pub mod exports;
pub mod fixture;
pub mod log;
pub mod owner_keys;
pub mod pages;
pub mod pending_accounts;
pub mod plans;
pub mod sessions;
pub mod snapshots;
pub mod teams;
pub mod whole_account;

/// Makes a test of every fact, for the stores of one harness.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:path) => {
        $crate::conformance_suite! { @facts $harness;
            apps {
                the_first_seed_is_bound,
                another_seed_is_refused_and_changes_nothing,
                an_accepted_seed_makes_every_record_stale,
                an_earlier_seed_makes_its_records_valid_again,
                redirects_belong_to_one_app,
                an_app_has_so_many_redirects,
                a_store_in_order_passes_its_check,
                a_closed_store_takes_no_more_work,
                apps_are_listed_with_their_keys,
                a_key_finds_its_app,
                a_replaced_key_works_until_the_overlap_ends,
                a_second_rotation_does_not_prolong_an_older_key,
                a_key_of_an_unknown_app_is_not_added,
                two_apps_never_have_the_same_name,
                a_renamed_app_keeps_its_keys,
            }
            addresses {
                a_new_address_signs_in_and_the_old_one_does_not,
                an_address_of_another_account_is_not_taken,
                an_outdated_change_of_address_changes_nothing,
                an_ended_session_changes_no_address,
            }
            teams {
                members_find_the_apps_of_their_teams,
                a_member_sees_the_keys_of_an_app,
                a_team_keeps_an_owner,
                two_teams_never_have_the_same_name,
                a_team_with_apps_is_not_deleted,
                a_team_has_so_many_apps_and_members,
                a_deleted_account_is_in_no_team,
                first_steps_are_seen_one_by_one,
            }
            plans {
                a_plan_is_given_changed_and_taken_away,
                owners_are_told_of_a_part_by_one_node,
                what_moved_is_added_once,
                what_is_deleted_does_not_count,
                a_full_app_takes_nothing_new,
                the_limit_of_users_is_kept_with_the_app,
                a_user_at_the_limit_stores_nothing_new,
                a_deleted_app_leaves_no_use,
                old_hours_of_use_are_forgotten,
            }
            allowances {
                a_used_up_allowance_grows_back,
                a_refused_attempt_draws_on_nothing,
                a_clock_that_was_ahead_shuts_nobody_out,
                an_attempt_may_count_once,
                what_was_given_back_can_be_drawn_again,
                strangers_make_no_row_on_the_last_of_a_disk,
                strangers_do_not_use_up_a_familiar_place,
                a_place_is_familiar_for_ninety_days,
                the_newest_eight_places_are_familiar,
                a_good_attempt_makes_its_place_familiar,
                a_whole_allowance_is_forgotten,
                a_clock_behind_gives_no_further_token,
                a_place_familiar_no_more_is_forgotten,
            }
            accounts {
                a_created_account_is_found_by_address_and_by_id,
                accounts_are_listed_in_order_of_creation,
                an_unknown_account_has_nothing,
                an_account_is_shown_with_what_it_keeps_in_each_app,
                a_repeated_creation_changes_nothing,
                a_taken_address_leaves_the_invitation_open,
                an_invitation_is_good_for_one_account,
                an_unknown_invitation_is_refused_first,
                a_replaced_vault_is_kept_where_asked,
                a_vault_is_replaced_only_at_its_version,
                a_new_vault_alone_keeps_record_and_sessions,
                a_new_record_ends_every_session_but_one,
                a_new_record_replaces_the_refresh_secret,
                a_mailed_code_has_an_end,
                a_code_of_a_clock_that_was_ahead_is_not_valid,
                a_newer_code_ends_no_older_one,
                a_reset_uses_every_code_up,
                a_reset_code_allows_few_starts,
                a_reset_confirms_the_address,
                a_reset_starts_a_new_generation,
                a_reset_code_is_used_up,
                ten_earlier_generations_are_kept,
            }
            pending_accounts {
                a_pending_account_is_found_by_its_code_alone,
                a_confirmed_account_is_what_was_registered,
                registrations_of_an_address_are_independent,
                the_oldest_registration_of_an_address_goes_first,
                a_repeated_registration_keeps_its_code,
                a_pending_account_of_a_clock_ahead_is_none,
                a_taken_address_is_kept_and_never_confirmed,
                a_pending_account_uses_no_invitation_up,
                a_pending_account_ends,
                too_many_pending_accounts_push_out_the_oldest,
                a_pending_record_of_a_lost_seed_is_stale,
            }
            device_grants {
                an_allowed_machine_is_told_once,
                a_machine_is_answered_once,
                a_fast_poll_slows_the_next_ones_down,
                a_machine_waits_ten_minutes,
                a_device_code_is_of_its_app,
                a_taken_user_code_is_not_stored,
                too_many_machines_push_out_the_oldest,
                polls_at_once_give_one_session,
            }
            sessions {
                a_replaced_password_opens_no_session,
                an_opened_session_is_found,
                a_page_session_belongs_to_no_listed_app,
                a_page_session_ends_after_twelve_hours,
                browsers_push_out_no_device,
                a_session_needs_its_account_and_its_app,
                sessions_are_listed_newest_first_across_apps,
                a_session_ends_ninety_days_after_its_last_refresh,
                a_refresh_moves_the_counter_on,
                the_counter_before_returns_the_current_one,
                an_older_counter_ends_the_session,
                an_unknown_refresh_counter_changes_nothing,
                live_sessions_are_told_from_ended_ones,
                ending_one_session_leaves_the_others,
                a_login_is_finished_once,
                a_repeated_login_opens_no_session_later,
                ending_sessions_leaves_other_accounts,
                a_session_is_ended_for_its_own_account_only,
            }
            deletion {
                a_deleted_app_is_gone_at_once,
                a_deleted_app_leaves_no_row_behind,
                a_deleted_app_leaves_other_apps_alone,
                a_deleted_account_is_gone_at_once,
                an_account_is_deleted_once,
                a_scheduled_deletion_waits_for_its_day,
                a_sign_in_keeps_the_account,
                a_deletion_leaves_other_accounts_alone,
                the_next_owner_of_an_address_finds_nothing,
                a_deletion_reopens_no_invitation,
                a_deletion_takes_pending_accounts_along,
                what_arrives_after_a_deletion_is_refused,
                deleted_objects_are_swept_after_their_urls,
                parts_of_the_deleted_go_after_two_hours,
                a_large_account_is_deleted_in_pieces,
            }
            exports {
                an_export_holds_everything_in_order,
                an_export_comes_in_pages_however_small,
                exported_batches_are_what_was_appended,
                an_export_ends_when_its_account_does,
            }
            devices {
                a_new_name_is_a_new_device,
                a_known_name_is_found_again_with_its_new_platform,
                registering_binds_the_session,
                a_session_keeps_its_device,
                an_ended_session_gets_no_device,
                an_installation_has_one_device_under_any_name,
                a_taken_name_gets_a_number,
                the_same_name_in_another_stream_is_another_device,
                the_hundred_and_first_device_is_too_many,
                devices_are_listed_in_order_of_registration,
                a_device_is_renamed_to_a_free_name,
                a_device_of_another_stream_is_not_found,
                revoking_ends_the_sessions_of_the_device_only,
                revoking_twice_ends_nothing_more,
                a_revoked_name_is_free_for_a_new_device,
                a_revoked_device_cannot_be_renamed,
                the_first_envelope_replaces_version_zero,
                an_envelope_replaces_only_the_current_version,
                another_master_key_is_written_only_at_the_head,
                envelopes_of_streams_are_apart,
            }
            owner_keys {
                only_the_owner_key_replaces_an_envelope,
                only_the_current_owner_key_completes_a_snapshot,
                a_kept_envelope_is_put_back_with_its_owner_key,
            }
            log {
                batches_follow_one_another,
                a_repeated_append_returns_the_first_answer,
                the_first_answer_comes_before_every_check,
                batch_ids_of_streams_are_apart,
                an_append_checks_the_device_first,
                an_append_needs_the_current_key,
                a_parent_on_the_chain_is_behind,
                a_long_way_behind_comes_in_pages,
                a_parent_off_the_chain_has_diverged,
                a_batch_without_entries_is_invalid,
                of_concurrent_appends_to_one_parent_one_is_stored,
                concurrent_streams_do_not_disturb_each_other,
                the_chain_is_read_in_pages,
                the_chain_hashes_to_the_head,
                the_chain_is_not_read_from_a_foreign_position,
                the_chain_of_an_unused_stream_is_empty,
                heads_are_those_of_each_stream,
                the_status_adds_up,
                the_status_of_an_unused_stream_is_its_start,
            }
            pages {
                an_empty_log_is_an_empty_page,
                a_page_is_what_was_appended,
                a_page_ends_before_entry_501,
                a_page_ends_before_its_byte_limit,
                a_batch_beyond_the_byte_limit_is_a_page_of_its_own,
                a_batch_of_the_largest_size_comes_back_unchanged,
                pages_follow_one_another_without_gap_or_repetition,
                a_cursor_at_the_end_is_an_empty_page,
                a_cursor_inside_a_batch_has_diverged,
                a_cursor_with_another_head_has_diverged,
                a_cursor_beyond_the_end_has_diverged,
                only_a_device_of_the_stream_reads,
                a_revoked_device_does_not_read,
                reading_is_seen_to_about_an_hour,
                appending_is_seen_to_about_an_hour,
            }
            snapshots {
                a_snapshot_counts_from_its_manifest,
                parts_and_manifest_may_come_again,
                a_snapshot_without_all_its_parts_is_incomplete,
                a_snapshot_is_current_newer_and_on_the_chain,
                the_log_is_cut_when_every_device_has_passed,
                only_a_cursor_that_the_app_has_lets_the_log_go,
                an_absent_or_revoked_device_holds_no_log,
                below_its_base_a_log_is_compacted,
                a_log_can_be_cut_to_its_end_and_goes_on,
                the_newest_batch_ids_outlive_their_batches,
                a_key_changes_at_the_newest_snapshot_only,
                an_unfinished_snapshot_is_swept_after_a_day,
                a_fifth_unfinished_snapshot_pushes_out_the_oldest,
                of_many_snapshots_four_stay_and_one_settles,
            }
            blobs {
                a_confirmed_upload_is_a_blob,
                an_upload_is_confirmed_once,
                a_blob_that_is_there_needs_no_upload,
                a_blob_in_one_stream_is_not_in_another,
                pending_uploads_are_found_by_blob_and_size,
                an_upload_is_named_once,
                an_ended_upload_is_kept_until_its_urls_end,
                only_an_upload_in_parts_can_be_ended,
                an_upload_without_a_url_is_swept_at_once,
                a_deleted_blob_is_brought_back_by_an_upload,
                replaced_objects_count_until_they_are_deleted,
                a_deleted_account_charges_nobody_for_its_replaced,
                a_replaced_object_is_swept_when_its_urls_are_over,
                an_abandoned_upload_is_swept_an_hour_after_its_url,
                a_deleted_blob_is_swept_after_thirty_days,
                a_condemned_blob_cannot_be_brought_back,
                an_object_is_swept_twice_and_forgotten,
                a_hash_may_come_at_the_end,
                a_question_begins_no_upload,
                only_condemned_objects_are_forgotten,
                postponed_objects_hold_up_no_others,
                the_sweep_is_bounded,
                blobs_are_listed_in_pages,
                stored_bytes_count_a_blob_until_it_is_swept,
            }
        }
    };
    (@facts $harness:path; $($topic:ident { $($fact:ident,)* })*) => {
        $(mod $topic {
            $(#[tokio::test]
            async fn $fact() {
                let harness = <$harness>::open().await;
                $crate::conformance::$topic::$fact(harness.store()).await;
            })*
        })*
    };
}
