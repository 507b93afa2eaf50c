python () {
    features = set(d.getVar('DISTRO_FEATURES').split())
    required = set((d.getVar('REQUIRED_DISTRO_FEATURES') or '').split())
    any_of = set((d.getVar('ANY_OF_DISTRO_FEATURES') or '').split())
    if required - features or (any_of and not any_of & features):
        raise bb.parse.SkipRecipe('a distribution feature is missing')
}
