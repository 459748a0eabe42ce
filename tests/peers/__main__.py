"""`python -m tests.peers`: builds or gets every peer that is not here, naming what it does."""

from tests.peers import GO, build, find

for name in GO:
    found = find(name)
    if found:
        print(f"{name}: {found}")
    else:
        work = "getting files of" if GO[name].files else "building"
        print(f"{name}: {work} {GO[name].package}@{GO[name].version} (a minute; Kubernetes takes five, Vault ten)", flush=True)
        print(f"{name}: {build(name)}")
