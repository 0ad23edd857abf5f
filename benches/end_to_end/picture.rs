//! Bars as SVG.

use std::fmt::Write as _;

/// One horizontal bar a value, with its label before and its value behind it.
pub(crate) fn bars(title: &str, values: &[(String, f64)]) -> String {
    const LABEL: f64 = 190.0;
    const BAR: f64 = 360.0;
    const ROW: f64 = 28.0;
    let most = values.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let height = ROW * (values.len() as f64 + 1.0) + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {height}\" width=\"640\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<title>{title}</title>\n<rect width=\"640\" height=\"{height}\" \
         fill=\"#ffffff\"/>\n<text x=\"{LABEL}\" y=\"20\" font-weight=\"bold\">{title}</text>\n"
    );
    for (place, (label, value)) in values.iter().enumerate() {
        let (top, width) = (ROW * (place as f64 + 1.0) + 4.0, BAR * value / most);
        let (text_at, right_of_bar, left_of_bar) = (top + 14.0, LABEL + width + 6.0, LABEL - 8.0);
        writeln!(
            svg,
            "<text x=\"{left_of_bar}\" y=\"{text_at}\" text-anchor=\"end\">{label}</text>\n<rect x=\"{LABEL}\" \
             y=\"{top}\" width=\"{width:.1}\" height=\"20\" fill=\"#3465a4\"/>\n<text x=\"{right_of_bar:.1}\" \
             y=\"{text_at}\">{value:.0}</text>"
        )
        .expect("a String takes everything");
    }
    svg + "</svg>\n"
}
