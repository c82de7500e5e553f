"""Installs the programs that the field scripts run: Debian packages, Python wheels, npm packages."""
import os
import shutil
import subprocess
import sys
from pathlib import Path


def apt(needed):
    """`needed`: program or path → Debian packages. Installs missing ones as root; otherwise says what to install, and fails."""
    there = lambda name: Path(name).exists() if name.startswith("/") else shutil.which(name)  # noqa: E731
    missing = [package for name, packages in needed.items() if not there(name) for package in packages]
    if not missing:
        return
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.getuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"needed: {' '.join(missing)}; on Debian: sudo {' '.join(command)}")
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def pip(directory, *wheels):
    """Makes a virtual environment in `directory` with these wheels, and returns the folder of its programs."""
    if not (directory / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    subprocess.run([directory / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *wheels], check=True)
    return directory / "bin"


def npm(directory, *packages):
    """Installs the packages in `directory`; None without npm."""
    if not shutil.which("npm"):
        return None
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", directory, *packages], check=True)
    return directory
