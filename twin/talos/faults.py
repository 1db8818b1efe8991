"""Faults of the operating system on the modules; `twin.faults` shows them in its table."""

from twin.faults import Kind

TABLE: tuple[Kind, ...] = (
    Kind("vip-nic-missing", "4b.12", "standing", "the link that the VIP names is not there: nobody here claims it"),
    Kind("bootstrap-not-yet", "4b.14", "taken", "Bootstrap answers 'bootstrap is not available yet'"),
    Kind("bootstrap-lost", "4b.14", "taken", "Bootstrap is done and its answer is lost"),
    Kind("clock-not-synced", "4b.14", "standing", "the node's time is not in sync: Bootstrap is refused"),
    Kind("install-fails", "4b.16", "taken", "the installer fails: the node is back in maintenance mode"),
    Kind("apply-lost", "4b.16", "taken", "the config is taken and the answer to ApplyConfiguration is lost"),
    Kind("api-error", "4b.17", "taken", "a call is answered UNAVAILABLE; `type` names the method", ("type",)),
    Kind("etcd-slow", "4c.28", "taken", "etcd starts for_s device seconds late", ("for_s",)),
    Kind("member-stuck", "4c.28", "standing", "the new etcd member stays a learner"),
    Kind("reset-hangs", "4c.22", "standing", "Reset is answered and never comes to its end"),
    Kind("etcd-leave-fails", "4c.20", "taken", "leaving etcd fails; the node goes on as a member"),
    Kind("etcd-down", "4c.21", "now", "the node's etcd is killed and stays down until the next boot"),
    Kind("kubelet-down", "4c.25", "now", "the node's kubelet is killed and stays down until the next boot"),
    Kind("upgrade-fails", "upgrade", "taken", "the installer fails: the node reboots into the version that it has"),
    Kind("upgrade-never-boots", "upgrade", "taken", "the new version's kernel hangs, at `times` boots in a row"),
    Kind("upgrade-reverts", "upgrade", "taken", "machined of the new version ends: it goes back to the other slot"),
    Kind("upgrade-never-ready", "upgrade", "standing", "the new version's kubelet never comes up"),
)
