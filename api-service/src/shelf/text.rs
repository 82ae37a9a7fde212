//! The texts of a snapshot that are searched: lower case, in one piece of memory.

use fuse_domain::Snapshot;

/// Symbols, names and sectors in lower case, by the places of their stocks.
pub(super) struct Texts {
    /// Symbol and name of one stock after the other, without separators.
    text: String,
    /// Where the symbol, and where the name of each stock ends.
    ends: Vec<(u32, u32)>,
    /// Distinct sectors.
    sectors: Vec<String>,
    /// For each stock its place in `sectors`.
    sector: Vec<u32>,
}

impl Texts {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut this = Self {
            text: String::with_capacity(snapshot.quotes.len() * 32),
            ends: Vec::with_capacity(snapshot.quotes.len()),
            sectors: Vec::new(),
            sector: Vec::with_capacity(snapshot.quotes.len()),
        };
        let mut known = std::collections::HashMap::new();
        for quote in &snapshot.quotes {
            this.text.push_str(&quote.symbol.as_str().to_lowercase());
            let symbol_end = place(this.text.len());
            this.text.push_str(&quote.name.to_lowercase());
            this.ends.push((symbol_end, place(this.text.len())));
            let sector = *known.entry(quote.sector.as_str()).or_insert_with(|| {
                this.sectors.push(quote.sector.to_lowercase());
                place(this.sectors.len() - 1)
            });
            this.sector.push(sector);
        }
        this.text.shrink_to_fit();
        this
    }

    fn symbol(&self, at: u32) -> &str {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before as usize].1);
        &self.text[begin as usize..self.ends[at as usize].0 as usize]
    }

    pub(super) fn name(&self, at: u32) -> &str {
        let (begin, end) = self.ends[at as usize];
        &self.text[begin as usize..end as usize]
    }

    /// Whether symbol or name contain this lower-case text.
    pub(super) fn contain(&self, at: u32, search: &str) -> bool {
        self.symbol(at).contains(search) || self.name(at).contains(search)
    }

    pub(super) fn sector(&self, at: u32) -> &str {
        &self.sectors[self.sector[at as usize] as usize]
    }
}

/// Snapshots are some megabytes: the refresher refuses larger ones.
pub(super) fn place(length: usize) -> u32 {
    u32::try_from(length).expect("a snapshot is smaller than four gigabytes")
}
