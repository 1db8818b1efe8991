"""Each line of the list of failure modes, 4a to 4d: the tests that play it, or why none does yet.

A test is named by its function, in whatever module of `tests/` it is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One failure mode.

    Attributes:
        what: in a few words.
        tests: the functions that play it.
        not_yet: why there is none, or what of the line is left out.
    """

    what: str
    tests: tuple[str, ...] = ()
    not_yet: str = ""


NO_LONGHORN = "there is no Longhorn in the lab yet"
NO_K3S = "only Talos nodes yet; node passwords are k3s' own"
NO_CHARTS = "nothing is installed into the cluster yet, and so no chart and no Kubernetes provider"

LINES: dict[str, Line] = {
    "4a.1": Line(
        "a second flash cancels the first",
        (
            "test_4a_1_a_hijacked_flash_is_done_again",
            "test_4a_1_one_board_writes_one_module_at_a_time",
            "test_4a_1_one_at_a_time_in_order_of_rank",
            "test_another_transfer_is_waited_for_and_never_cancelled",
        ),
    ),
    "4a.2": Line(
        "the upload must begin within 10 s",
        ("test_4a_2_a_handle_that_expired_is_asked_for_again", "test_4a_a_passing_fault_costs_at_most_a_second_try"),
    ),
    "4a.3": Line(
        "a node is off after its flash",
        (
            "test_4a_3_a_node_is_powered_after_its_flash",
            "test_4a3_4a4_after_a_failed_flash_every_slot_has_its_wished_power",
        ),
    ),
    "4a.4": Line(
        "USB boot fails and leaves a mess",
        ("test_4a_4_a_module_that_usb_boot_left_hanging_is_flashed", "test_4a4_an_empty_slot_is_named"),
    ),
    "4a.5": Line(
        "the BMC runs out of memory",
        (
            "test_4a_5_a_bmc_out_of_memory_is_waited_for_and_not_rebooted",
            "test_4a_5_the_second_flash_in_a_row_kills_the_bmc_and_is_done_again",
            "test_4a5_the_bmc_is_rebooted_when_nothing_else_runs",
            "test_4a5_a_daemon_that_stays_away_is_an_error_that_says_what_to_type",
        ),
    ),
    "4a.6": Line("the BMC's /tmp is small", ("test_4a_6_no_image_is_put_on_the_bmc",)),
    "4a.7": Line(
        "the password is back at its default",
        (
            "test_4a_7_a_password_that_was_reset_is_one_try_and_a_clear_word",
            "test_4a7_a_password_reset_to_the_default_is_never_guessed",
            "test_4a7_another_certificate_is_refused_before_anything_is_sent",
        ),
    ),
    "4a.8": Line(
        "answers differ by firmware",
        ("test_4a_8_firmware_2_0_and_1_1_from_nothing_to_ready", "test_4a8_each_firmwares_answers"),
    ),
    "4a.9": Line(
        "the install disk changes its name",
        ("test_4a_9_a_disk_that_changed_its_name_is_found_by_its_size",),
        "upgrades of a running node are not part of the program yet",
    ),
    "4a.10": Line(
        "done is said too early",
        (
            "test_4a_10_done_is_believed_when_the_module_has_booted",
            "test_4a_a_passing_fault_costs_at_most_a_second_try",
        ),
    ),
    "4b.11": Line("there is no VIP before the bootstrap", ("test_4b_11_talos_is_never_asked_at_the_vip",)),
    "4b.12": Line(
        "the VIP is never claimed",
        ("test_4b_12_a_vip_that_nobody_claims_is_named", "test_the_vip_is_on_the_interface_with_the_nodes_mac"),
    ),
    "4b.13": Line(
        "the VIP is taken for a node's address",
        ("test_4b_13_etcd_and_kubelets_never_take_the_vip", "test_no_node_takes_the_vip_for_its_own_address"),
    ),
    "4b.14": Line(
        "bootstrapped, and nobody remembers",
        (
            "test_4b_14_an_answer_that_was_lost_does_not_matter",
            "test_4b_14_bootstrapping_a_cluster_that_runs_changes_nothing",
            "test_killed_again_and_again_in_one_cold_up",
        ),
    ),
    "4b.15": Line(
        "two nodes bootstrapped",
        ("test_4b_15_all_control_planes_are_one_etcd", "test_4b_15_nothing_is_bootstrapped_while_one_is_silent"),
    ),
    "4b.16": Line(
        "maintenance mode taken for configured",
        (
            "test_4b_16_a_foreign_node_is_named_and_left_alone",
            "test_4b_16_an_applied_config_whose_answer_was_lost_is_seen",
            "test_without_a_credential_it_stops_and_touches_nothing",
        ),
    ),
    "4b.17": Line(
        "a method that is not there yet",
        ("test_4b_17_calls_that_come_too_early_are_repeated", "test_a_method_that_maintenance_mode_lacks"),
    ),
    "4b.18": Line("half-open connections", ("test_4b_18_a_half_open_connection_ends_in_time_and_the_next_call_works",)),
    "4c.19": Line(
        "the quorum is lost",
        (
            "test_4c_19_losing_the_quorum_is_refused_before_anything_is_touched",
            "test_4c_19_losing_the_quorum_by_the_settings_is_refused_at_preview",
            "test_what_may_leave_leaves_a_cluster_that_can_write",
        ),
    ),
    "4c.20": Line("wiped though it is still a member", ("test_4c_20_nothing_is_wiped_while_it_is_still_a_member",)),
    "4c.21": Line(
        "an unhealthy member blocks its own removal",
        (
            "test_4c_21_a_dead_members_own_death_holds_nobody_up",
            "test_a_dead_member_is_never_held_back_by_its_own_death",
        ),
    ),
    "4c.22": Line(
        "a dead node's reset waits for ever",
        (
            "test_4c_22_a_dead_node_leaves_in_time",
            "test_4c_22_it_comes_back_reset_and_as_a_new_member",
            "test_4c_22_a_node_that_left_unwiped_is_reset_before_it_joins",
            "test_4c_22_a_dead_worker_leaves_and_comes_back_reset",
        ),
    ),
    "4c.23": Line("the wrong member is removed", ("test_4c_23_only_the_dead_ones_member_id_is_removed",)),
    "4c.24": Line(
        "the Node object is gone already",
        (
            "test_4c_24_4c_29_4d_31_disabled_with_its_node_object_gone",
            "test_4c_24_the_node_object_goes_after_its_kubelet_and_stays_away",
        ),
    ),
    "4c.25": Line(
        "the drain never ends",
        (
            "test_4c_25_a_budget_that_never_gives_way_bounds_the_drain_and_is_named",
            "test_a_budget_is_kept_to",
            "test_a_budget_that_never_gives_way_ends_with_the_deadline_and_is_named",
        ),
        NO_LONGHORN,
    ),
    "4c.26": Line(
        "the first control plane is the dead one",
        ("test_4c_26_any_healthy_peer_does_it_when_the_first_one_is_the_dead_one",),
    ),
    "4c.27": Line("the node's password is rejected", not_yet=NO_K3S),
    "4c.28": Line(
        "a stale member or a learner on re-adding",
        ("test_4c_28_a_learner_that_is_never_promoted_is_waited_for_and_named", "test_one_out_and_back"),
    ),
    "4c.29": Line(
        "health checks expect the removed node", ("test_4c_24_4c_29_4d_31_disabled_with_its_node_object_gone",)
    ),
    "4d.30": Line(
        "a targeted destroy cascades",
        ("test_nothing_cluster_wide_depends_on_a_node", "test_after_orders_and_records_no_dependency"),
    ),
    "4d.31": Line(
        "the next up brings it back",
        ("test_one_out_and_back", "test_4c_24_4c_29_4d_31_disabled_with_its_node_object_gone"),
    ),
    "4d.32": Line("delete hooks want the program", ("test_4d_32_no_resource_has_hooks", "test_one_out_and_back")),
    "4d.33": Line(
        "deletes run with what state holds",
        (
            "test_4d_33_a_new_password_updates_and_replaces_nothing",
            "test_4d_33_a_node_leaves_with_the_present_password",
            "test_a_delete_goes_on_with_the_settings_present_password",
            "test_without_the_board_in_the_settings_the_stored_password_does",
            "test_state_holds_no_secret_and_no_code",
        ),
    ),
    "4d.34": Line(
        "deleting against a gone host",
        (
            "test_4c_22_a_dead_node_leaves_in_time",
            "test_4d_34_4d_35_everything_is_given_back_though_no_api_answers",
        ),
    ),
    "4d.35": Line(
        "a dead API blocks the destroy",
        (
            "test_4d_34_4d_35_everything_is_given_back_though_no_api_answers",
            "test_4d_35_a_node_stays_when_no_api_answers",
        ),
    ),
    "4d.36": Line(
        "interrupted runs leave pending operations",
        ("test_killed_again_and_again_in_one_cold_up", "test_killed_while_a_control_plane_leaves"),
    ),
    "4d.37": Line(
        "a release stuck in pending-install",
        (
            "test_killed_at_eight_points_of_the_platform",
            "test_what_the_state_has_forgotten_is_taken_over_and_still_ours_to_change",
            "test_a_record_of_work_that_was_killed_goes",
        ),
    ),
    "4d.38": Line(
        "a replaced provider cascades", ("test_4d_38_nothing_is_ever_replaced",), f"the charts' half: {NO_CHARTS}"
    ),
    "4d.39": Line(
        "a stale lock after a killed run",
        ("test_killed_again_and_again_in_one_cold_up", "test_another_hosts_lock_is_never_ours_to_judge"),
    ),
    "4d.45": Line(
        "the provider outlives its engine",
        (
            "test_4d_45_the_provider_ends_with_its_engine",
            "test_4d_45_says_who_holds_it",
            "test_4d_45_a_killed_holder_holds_nothing",
        ),
    ),
    "4d.46": Line(
        "the file backend's lock outlives its run",
        (
            "test_a_lock_whose_process_is_gone_is_released_with_a_word",
            "test_a_living_holder_is_named_and_nothing_is_removed",
        ),
    ),
    "4d.47": Line(
        "pending creates are created again",
        ("test_killed_again_and_again_in_one_cold_up", "test_killed_once_then_converges"),
    ),
}
