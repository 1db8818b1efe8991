"""The keys and documents that a node's schema knows; anything else is refused (facts B5, daytwo 1.3)."""

from typing import Any

_SCHEMA: dict[tuple[str, ...], str] = {
    (): "version debug persist machine cluster",
    (
        "machine",
    ): "type token ca acceptedCAs certSANs controlPlane kubelet pods network disks install files env time sysctls"
    " sysfs registries systemDiskEncryption features udev logging kernel seccompProfiles baseRuntimeSpecOverrides"
    " nodeLabels nodeAnnotations nodeTaints",
    ("machine", "ca"): "crt key",
    ("machine", "install"): "disk diskSelector extraKernelArgs image extensions bootloader wipe legacyBIOSSupport"
    " grubUseUKICmdline",
    ("machine", "kubelet"): "image clusterDNS extraArgs extraMounts extraConfig credentialProviderConfig"
    " defaultRuntimeSeccompProfileEnabled registerWithFQDN nodeIP skipNodeRegistration disableManifestsDirectory",
    (
        "machine",
        "network",
    ): "hostname interfaces nameservers searchDomains extraHostEntries kubespan disableSearchDomain",
    ("machine", "time"): "disabled servers bootTimeout",
    ("machine", "registries"): "mirrors config",
    (
        "machine",
        "features",
    ): "rbac stableHostname kubernetesTalosAPIAccess apidCheckExtKeyUsage diskQuotaSupport kubePrism"
    " hostDNS imageCache nodeAddressSortAlgorithm",
    ("cluster",): "id secret controlPlane clusterName network token aescbcEncryptionSecret secretboxEncryptionSecret ca"
    " acceptedCAs aggregatorCA serviceAccount apiServer controllerManager proxy scheduler discovery etcd coreDNS"
    " externalCloudProvider extraManifests extraManifestHeaders inlineManifests adminKubeconfig"
    " allowSchedulingOnMasters allowSchedulingOnControlPlanes",
    ("cluster", "ca"): "crt key",
    ("cluster", "controlPlane"): "endpoint localAPIServerPort",
    ("cluster", "network"): "cni dnsDomain podSubnets serviceSubnets",
    ("cluster", "network", "cni"): "name urls flannel",
    ("cluster", "etcd"): "image ca extraArgs subnet advertisedSubnets listenSubnets",
    ("cluster", "etcd", "ca"): "crt key",
    (
        "cluster",
        "apiServer",
    ): "image extraArgs extraVolumes env certSANs disablePodSecurityPolicy admissionControl auditPolicy"
    " authorizationConfig resources",
    ("cluster", "controllerManager"): "image extraArgs extraVolumes env resources",
    ("cluster", "scheduler"): "image extraArgs extraVolumes env resources config",
    ("cluster", "proxy"): "disabled image mode extraArgs",
    ("cluster", "discovery"): "enabled registries",
    ("cluster", "coreDNS"): "disabled image",
}

_SINCE: dict[tuple[int, int], str] = {
    (1, 7): "EventSinkConfig ExtensionServiceConfig KmsgLogConfig NetworkDefaultActionConfig NetworkRuleConfig"
    " SideroLinkConfig WatchdogTimerConfig",
    (1, 8): "KubeSpanEndpointsConfig TrustedRootsConfig VolumeConfig",
    (1, 10): "EthernetConfig PCIDriverRebindConfig UserVolumeConfig",
    (1, 11): "ExistingVolumeConfig RawVolumeConfig SwapVolumeConfig ZswapConfig",
    (
        1,
        12,
    ): "HostnameConfig Layer2VIPConfig HCloudVIPConfig LinkConfig LinkAliasConfig DHCPv4Config DHCPv6Config BondConfig"
    " BridgeConfig DummyLinkConfig VLANConfig WireguardConfig ResolverConfig StaticHostConfig TimeSyncConfig"
    " RegistryMirrorConfig RegistryAuthConfig RegistryTLSConfig OOMConfig",
    (1, 13): "BlackholeRouteConfig EnvironmentConfig ExternalVolumeConfig ImageVerificationConfig KubeSpanConfig"
    " RoutingRuleConfig TCPProbeConfig VRFConfig",
}


def unknown_keys(main: dict[str, Any]) -> list[str]:
    """The paths of keys that the schema doesn't have, as far down as it is known here."""
    unknown = []
    for path, words in _SCHEMA.items():
        section: Any = main
        for key in path:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict):
            unknown += [".".join((*path, str(key))) for key in section if key not in words.split()]
    return sorted(unknown)


def registered(kind: str, version: tuple[int, int]) -> bool:
    """Whether a node of this Talos version knows a kind of document."""
    return any(since <= version and kind in names.split() for since, names in _SINCE.items())
