"""The paths of the remote methods and what they take and give (https://github.com/siderolabs/talos/tree/main/api)."""

from __future__ import annotations

from providers.talos.api import talos_pb2 as pb
from providers.talos.transport import Method

_MACHINE = "/machine.MachineService"

VERSION = Method(f"{_MACHINE}/Version", pb.Empty, pb.VersionResponse)
APPLY_CONFIGURATION = Method(
    f"{_MACHINE}/ApplyConfiguration", pb.ApplyConfigurationRequest, pb.ApplyConfigurationResponse
)
BOOTSTRAP = Method(f"{_MACHINE}/Bootstrap", pb.BootstrapRequest, pb.AcknowledgementResponse)
RESET = Method(f"{_MACHINE}/Reset", pb.ResetRequest, pb.AcknowledgementResponse)
REBOOT = Method(f"{_MACHINE}/Reboot", pb.RebootRequest, pb.AcknowledgementResponse)
UPGRADE = Method(f"{_MACHINE}/Upgrade", pb.UpgradeRequest, pb.AcknowledgementResponse)
ROLLBACK = Method(f"{_MACHINE}/Rollback", pb.Empty, pb.AcknowledgementResponse)
IMAGE_PULL = Method(f"{_MACHINE}/ImagePull", pb.ImagePullRequest, pb.AcknowledgementResponse)
SHUTDOWN = Method(f"{_MACHINE}/Shutdown", pb.ShutdownRequest, pb.AcknowledgementResponse)
SERVICE_LIST = Method(f"{_MACHINE}/ServiceList", pb.Empty, pb.ServiceListResponse)
SERVICE_RESTART = Method(f"{_MACHINE}/ServiceRestart", pb.ServiceRestartRequest, pb.AcknowledgementResponse)
READ = Method(f"{_MACHINE}/Read", pb.ReadRequest, pb.Data)
ETCD_MEMBER_LIST = Method(f"{_MACHINE}/EtcdMemberList", pb.EtcdMemberListRequest, pb.EtcdMemberListResponse)
ETCD_STATUS = Method(f"{_MACHINE}/EtcdStatus", pb.Empty, pb.EtcdStatusResponse)
ETCD_REMOVE_MEMBER = Method(
    f"{_MACHINE}/EtcdRemoveMemberByID", pb.EtcdRemoveMemberByIDRequest, pb.AcknowledgementResponse
)
ETCD_LEAVE = Method(f"{_MACHINE}/EtcdLeaveCluster", pb.Empty, pb.AcknowledgementResponse)
ETCD_FORFEIT_LEADERSHIP = Method(f"{_MACHINE}/EtcdForfeitLeadership", pb.Empty, pb.EtcdForfeitLeadershipResponse)
ETCD_SNAPSHOT = Method(f"{_MACHINE}/EtcdSnapshot", pb.Empty, pb.Data)
ETCD_RECOVER = Method(f"{_MACHINE}/EtcdRecover", pb.Data, pb.AcknowledgementResponse)
KUBECONFIG = Method(f"{_MACHINE}/Kubeconfig", pb.Empty, pb.Data)
MOUNTS = Method(f"{_MACHINE}/Mounts", pb.Empty, pb.MountsResponse)
DISKS = Method("/storage.StorageService/Disks", pb.Empty, pb.DisksResponse)
COSI_GET = Method("/cosi.resource.State/Get", pb.GetRequest, pb.GetResponse)
COSI_LIST = Method("/cosi.resource.State/List", pb.ListRequest, pb.ListResponse)
