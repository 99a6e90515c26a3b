#!/bin/sh
# pluggy 1.7.0 and, for comparison, 1.6.0 (PyPI).
# pluggy gives an implementation of a hook those arguments that it names, and refuses one that names an argument which the
# hook does not have. It looks at the positional ones only: behind a "*" an argument is never given. One that has a
# default keeps it in every call, one that has none is a TypeError in every call, and a misspelt one is not refused
# when the plugin is registered. Up to 1.6.0 a positional argument with a default was not given either; since 1.7.0 it
# is, so that the same plugin gets another value, and a misspelt one still is not refused.
# Output: 1.6.0: default: None, keyword: TypeError, both: None, misspelt: None /
#  1.7.0: default: given, keyword: TypeError, both: None, misspelt: None
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/call.py" <<'PY'
import pluggy

hookspec, hookimpl = pluggy.HookspecMarker("mail"), pluggy.HookimplMarker("mail")


class Hooks:
    @hookspec
    def asked(self, sender, recipient): ...


class Default:
    @hookimpl
    def asked(self, sender, recipient=None):
        return [recipient]


class Keyword:
    @hookimpl
    def asked(self, sender, *, recipient):
        return [recipient]


class Both:
    @hookimpl
    def asked(self, sender, *, recipient=None):
        return [recipient]


class Misspelt:
    @hookimpl
    def asked(self, sender, recipent=None):
        return [recipent]


seen = []
for plugin in (Default, Keyword, Both, Misspelt):
    manager = pluggy.PluginManager("mail")
    manager.add_hookspecs(Hooks)
    manager.register(plugin())
    try:
        ((answer,),) = manager.hook.asked(sender="ann", recipient="given")
    except TypeError as error:
        answer = type(error).__name__
    seen.append(f"{plugin.__name__.lower()}: {answer}")
print(f"{pluggy.__version__}:", ", ".join(seen))
PY
seen=$(for version in 1.6.0 1.7.0; do
  python3 -m venv "$here/$version"
  "$here/$version/bin/pip" install -q "pluggy==$version" 2>/dev/null
  "$here/$version/bin/python" "$here/call.py"
done | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "1.6.0: default: None, keyword: TypeError, both: None, misspelt: None / \
1.7.0: default: given, keyword: TypeError, both: None, misspelt: None" ]
