package provider

// served is what a project's table was made of.
type served struct {
	defs    []Definition
	aliases []Alias
}

// ServedProject is what Routes knows of one project, for the last-known-good file. Credentials holds the credentials by the
// definition's id, since a Secret does not print itself: seal it.
type ServedProject struct {
	Project     string
	Definitions []Definition
	Credentials map[string]string
	Aliases     []Alias
}

// Served lists the projects whose routes are in memory.
func (r *Routes) Served() []ServedProject {
	var out []ServedProject
	r.projects.Range(func(k, v any) bool {
		p := v.(*project)
		from := p.source.Load()
		if from == nil || p.table.Load() == nil {
			return true // not served, or changed since
		}
		s := ServedProject{Project: k.(string), Definitions: from.defs, Aliases: from.aliases, Credentials: map[string]string{}}
		for _, d := range from.defs {
			s.Credentials[d.ID] = d.Credential.Reveal()
		}
		out = append(out, s)
		return true
	})
	return out
}

// Preload remembers routes that an earlier process used, as if they had just been loaded. The feed must stand at the revision they were
// taken at: it then delivers every change since. Call it before Route.
func (r *Routes) Preload(projects []ServedProject) {
	for _, s := range projects {
		for i := range s.Definitions {
			s.Definitions[i].Credential = NewSecret(s.Credentials[s.Definitions[i].ID])
		}
		p := &project{loading: make(chan struct{}, 1), built: map[string]built{}}
		t, err := r.build(s.Definitions, s.Aliases, p)
		if err != nil {
			continue // asked of the database when it is there again
		}
		p.source.Store(&served{s.Definitions, s.Aliases})
		p.table.Store(t)
		r.projects.Store(s.Project, p)
	}
}
