"""What users run in the cluster, one component a file; none imports another, or one of `platform`.

`calls`, `common` and `pod` are shared; `api` and `signing_proxy` say what a workload of each is given.
"""
