#!/usr/bin/env bash
# Sets up a machine that `ray up` has started: installs the lock and sets variables for all shells.
# Arguments: more variables, as NAME=VALUE.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# rsync copies the mode of the token from the other machine, where the world may be able to read it.
chmod 600 ~/.ray/auth_token

test -x ~/.local/bin/uv || curl -LsSf https://astral.sh/uv/0.13.9/install.sh | sh
# All machines need the same Python to read each other's messages.
test -d ~/venv || ~/.local/bin/uv venv --python 3.11 ~/venv
# The lock is complete; aisfx in it asks for a numpy of 2022, which nothing here needs.
~/.local/bin/uv pip install --quiet --no-deps --python ~/venv/bin/python -r "$here/requirements.lock"

# Ray runs its commands in shells that read .bashrc.
printf 'export %s\n' 'PATH=~/venv/bin:$PATH' RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 "$@" \
    > "$here/environment"
grep -qs "source $here/environment" ~/.bashrc || echo "source $here/environment" >> ~/.bashrc
