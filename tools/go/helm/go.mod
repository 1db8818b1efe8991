module homelab/tools/helm

go 1.26

require helm.sh/helm/v3 v3.18.6
