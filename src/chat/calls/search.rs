//! Markers in a text that comes in characters, with the blank space before them.

/// Looks for any of some markers. What could be the beginning of one is held back, and so is blank
/// space, which nobody is told if a marker follows.
///
/// The first character of a marker occurs nowhere else in one: where one breaks off, only the
/// character that breaks it can begin another.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    markers: Vec<&'static str>,
    spaces: String,
    /// The beginning of a marker.
    begun: String,
}

/// What a character led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Text that belongs to no marker, empty if more has to come.
    Text(String),
    /// A marker is complete; this blank space came before it.
    Marker(&'static str, String),
}

impl Search {
    pub fn new(markers: impl IntoIterator<Item = &'static str>) -> Self {
        Self { markers: markers.into_iter().collect(), ..Self::default() }
    }

    pub fn push(&mut self, c: char) -> Found {
        self.begun.push(c);
        let mut candidates = self.markers.iter().filter(|marker| marker.starts_with(&self.begun));
        if let Some(marker) = candidates.next() {
            if marker.len() > self.begun.len() {
                return Found::Text(String::new());
            }
            self.begun.clear();
            return Found::Marker(marker, std::mem::take(&mut self.spaces));
        }
        self.begun.pop();
        if c.is_whitespace() && self.begun.is_empty() && !self.markers.is_empty() {
            self.spaces.push(c);
            return Found::Text(String::new());
        }
        let mut text = self.finish();
        let is_first = |marker: &&str| marker.starts_with(c);
        if self.markers.iter().any(is_first) {
            self.begun.push(c);
        } else if c.is_whitespace() && !self.markers.is_empty() {
            self.spaces.push(c);
        } else {
            text.push(c);
        }
        Found::Text(text)
    }

    /// Whether nothing but blank space is held back.
    pub fn is_between(&self) -> bool {
        self.begun.is_empty()
    }

    /// Looks for a marker no more.
    pub fn ignore(&mut self, marker: &str) {
        self.markers.retain(|other| *other != marker);
    }

    /// What is held back, since no marker came of it.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.spaces) + &std::mem::take(&mut self.begun)
    }
}
