"""Everything about the package stands in pyproject.toml; here only that the configurations go with it."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigurations(build_py):
    """Puts `configs/` into the package, where an installation looks for it (`paths.SHIPPED`)."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "featherweight" / "configs"
            shutil.copytree("configs", target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.schema.json"))


setup(cmdclass={"build_py": BuildWithConfigurations})
